"""Labels that choose scheduler, affinity and weight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.lb.option import LONGEST, NONE, Options, agreed, disagreements, read_options
from phalanx.lb.service import Scheduler


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param((), NONE, id="none"),
        pytest.param((("VIP_0", "/web:80"),), NONE, id="others"),
        pytest.param((("LB_SCHEDULER", "mh"),), Options(Scheduler.MH), id="scheduler"),
        pytest.param((("LB_SCHEDULER", " RR"),), Options(Scheduler.RR), id="in-capitals"),
        pytest.param((("LB_AFFINITY", "300"),), Options(affinity_seconds=300), id="affinity"),
        pytest.param((("LB_AFFINITY", "0"),), Options(affinity_seconds=0), id="no-affinity"),
        pytest.param((("LB_WEIGHT", "5"),), Options(weight=5), id="weight"),
        pytest.param((("LB_WEIGHT", "0"),), Options(weight=0), id="no-weight"),
        pytest.param(
            (("LB_WEIGHT", "2"), ("LB_SCHEDULER", "wlc"), ("LB_AFFINITY", "604800")),
            Options(Scheduler.WLC, 604800, 2),
            id="all",
        ),
        pytest.param((("LB_WEIGHT", "2"), ("LB_WEIGHT", "3")), Options(weight=3), id="twice"),
    ],
)
def test_labels_say_options(labels: tuple[tuple[str, str], ...], expected: Options) -> None:
    assert read_options(labels) == (expected, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("LB_SCHEDULER", ""),
        ("LB_SCHEDULER", "lc"),
        ("LB_AFFINITY", "-1"),
        ("LB_AFFINITY", "5m"),
        ("LB_AFFINITY", "604801"),
        ("LB_AFFINITY", "9" * 5000),
        ("LB_WEIGHT", "1.5"),
        ("LB_WEIGHT", "65536"),
        ("LB_WEIGHT", "५"),
    ],
)
def test_label_that_can_not_be_used_is_listed_and_harms_no_sibling(key: str, value: str) -> None:
    others = tuple(pair for pair in (("LB_SCHEDULER", "rr"), ("LB_WEIGHT", "7")) if pair[0] != key)

    options, [bad] = read_options(((key, value), *others))

    assert (bad.key, bad.value) == (key, value[:LONGEST])
    assert options == read_options(others)[0]


RR, SH = Options(Scheduler.RR), Options(Scheduler.SH)
SHORT, LONG = Options(affinity_seconds=30), Options(affinity_seconds=60)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([], (Scheduler.WLC, 0), id="nobody"),
        pytest.param([NONE, NONE], (Scheduler.WLC, 0), id="nothing"),
        pytest.param([NONE, RR, NONE], (Scheduler.RR, 0), id="one-who-speaks"),
        pytest.param([RR, SH, SH], (Scheduler.SH, 0), id="most"),
        pytest.param([RR, SH], (Scheduler.RR, 0), id="as-many-schedulers"),
        pytest.param([SHORT, LONG], (Scheduler.WLC, 60), id="as-many-affinities"),
        pytest.param([SHORT, SHORT, LONG], (Scheduler.WLC, 30), id="most-affinities"),
    ],
)
def test_what_most_tasks_say_counts(said: list[Options], expected: tuple[Scheduler, int]) -> None:
    assert agreed(said) == expected
    assert agreed(said[::-1]) == expected


def test_who_says_nothing_does_not_disagree() -> None:
    assert disagreements([NONE, RR, SHORT]) == ()


def test_disagreement_names_what_counts() -> None:
    assert disagreements([RR, SH, LONG, SHORT]) == (
        "LB_SCHEDULER: tasks say rr, sh: rr counts",
        "LB_AFFINITY: tasks say 30, 60: 60 counts",
    )


@given(st.permutations([NONE, RR, SH, SH, SHORT, LONG, Options(Scheduler.MH, 30, 4)]))
def test_order_of_tasks_makes_no_difference(said: list[Options]) -> None:
    assert agreed(said) == (Scheduler.SH, 30)
