"""Filters by agent and bit, constraints, the whitelist: what keeps offers away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import InvalidError
from phalanx.master.allocator.constraint import (
    Features,
    RegexLimits,
    compiled,
    regex,
)
from phalanx.master.allocator.quota import Budget, Quota, within
from phalanx.master.allocator.whitelist import parse_whitelist, read_whitelist
from phalanx.master.cluster.filter import FilterTable, refusal_seconds
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import AgentInfo, Resource
from phalanx.mesos.v1.scheduler import OfferConstraints

FREE = Resources.parse("cpus:1;mem:64")
LIMITS = RegexLimits()


# How long


@pytest.mark.parametrize(
    ("seconds", "lives"),
    [(None, 5.0), (-1.0, 5.0), (float("nan"), 5.0), (0.5, 1.0), (60.0, 60.0), (1e12, 31536000.0)],
)
def test_refusal_lasts_as_mesos_has_it(seconds: float | None, lives: float) -> None:
    assert refusal_seconds(seconds, interval=1.0) == lives


def test_refusal_of_zero_seconds_is_none() -> None:
    assert refusal_seconds(0.0, interval=1.0) is None


# The table


def blocked(table: FilterTable, agent: str, free: Resources, now: float = 0.0) -> int:
    mask = 0
    for refused, bits in table.view(agent, now):
        if free in refused:
            mask |= bits
    return mask


def passed(table: FilterTable, free: Resources = FREE) -> int:
    mask = 0
    for what, bits in table.passed("a"):
        if free in what:
            mask |= bits
    return mask


def bit(table: FilterTable, framework: str, role: str = "*") -> int:
    return 1 << table.slot(framework, role)


def test_filter_holds_back_what_was_refused_and_less_until_its_time() -> None:
    table = FilterTable()
    table.refuse(("f", "*"), "a", FREE, 5.0)

    assert blocked(table, "a", FREE, 4.9) == bit(table, "f")
    assert blocked(table, "a", Resources.parse("cpus:0.5"), 4.9) == bit(table, "f")
    assert blocked(table, "a", FREE + Resources.parse("cpus:1"), 4.9) == 0
    assert blocked(table, "b", FREE, 4.9) == 0
    assert blocked(table, "a", FREE, 5.0) == 0
    assert table.view("a", 5.0) == ()


def test_same_refusals_of_many_are_one_entry() -> None:
    table = FilterTable()
    for name in "fgh":
        table.refuse((name, "*"), "a", Resources.parse("cpus:1;mem:64"), 5.0)

    [(refused, mask)] = table.view("a", 0.0)
    assert refused == FREE
    assert mask == bit(table, "f") | bit(table, "g") | bit(table, "h")


def test_new_filter_replaces_those_it_covers() -> None:
    table = FilterTable()
    table.refuse(("f", "*"), "a", Resources.parse("cpus:1"), 1.0)
    table.refuse(("f", "*"), "a", Resources.parse("cpus:2"), 99.0)
    table.refuse(("f", "*"), "a", FREE, 5.0)

    assert [refused for refused, _ in table.view("a", 0.0)] == [Resources.parse("cpus:2"), FREE]


def test_the_view_is_the_same_object_while_nothing_changes() -> None:
    table = FilterTable()
    table.refuse(("f", "*"), "a", FREE, 5.0)

    assert table.view("a", 0.0) is table.view("a", 4.0)


def test_revival_drops_the_filters_of_its_roles_alone() -> None:
    table = FilterTable()
    table.refuse(("f", "x"), "a", FREE, 5.0)
    table.refuse(("f", "y"), "a", FREE, 5.0)
    table.revive("f", ["x"])

    assert blocked(table, "a", FREE) == bit(table, "f", "y")
    assert passed(table) == bit(table, "f", "y")
    assert table.active() == {"x": 0, "y": 1}


def test_bits_of_a_framework_that_is_over_are_given_to_another() -> None:
    table = FilterTable()
    old = bit(table, "f")
    table.refuse(("f", "*"), "a", FREE, 5.0)
    table.forget_framework("f")

    assert bit(table, "g") == old
    assert blocked(table, "a", FREE) == 0
    assert passed(table) == 0


def test_use_of_an_offer_begins_the_turns_anew() -> None:
    table = FilterTable()
    table.refuse(("f", "*"), "a", FREE, None)
    assert passed(table) == bit(table, "f")
    assert passed(table, FREE + FREE) == 0

    table.refuse(("g", "*"), "a", FREE, 5.0, is_pass=False)

    assert passed(table) == 0
    assert blocked(table, "a", FREE) == bit(table, "g")


def test_only_the_latest_passes_are_kept() -> None:
    table = FilterTable()
    for amount in range(1, 9):
        table.refuse(("f", "*"), "a", Resources.parse(f"cpus:{amount}"), None)

    assert [what.scalar("cpus") for what, _ in table.passed("a")] == [5, 6, 7, 8]


def test_inverse_refusals_end() -> None:
    table = FilterTable()
    table.refuse_inverse("f", "a", 5.0)

    assert table.blocks_inverse("f", "a", 4.9)
    assert not table.blocks_inverse("g", "a", 4.9)
    assert not table.blocks_inverse("f", "a", 5.0)


names = st.sampled_from("fgh")
agents = st.sampled_from("abc")
cpus = st.integers(1, 3).map(lambda amount: Resources.parse(f"cpus:{amount}"))
steps = st.one_of(
    st.tuples(st.just("refuse"), names, agents, cpus, st.integers(1, 20)),
    st.tuples(st.just("revive"), names),
    st.tuples(st.just("forget_framework"), names),
    st.tuples(st.just("forget_agent"), agents),
    st.tuples(st.just("wait"), st.integers(1, 5)),
)


@given(st.lists(steps, max_size=40))
def test_table_agrees_with_a_plain_list(found: list[Any]) -> None:
    table = FilterTable()
    plain: list[tuple[str, str, Resources, float]] = []
    now = 0.0
    for step in found:
        match step:
            case ("refuse", name, agent, refused, seconds):
                table.refuse((name, "*"), agent, refused, now + seconds)
                plain.append((name, agent, refused, now + seconds))
            case ("revive", name):
                table.revive(name, ["*"])
                plain = [item for item in plain if item[0] != name]
            case ("forget_framework", name):
                table.forget_framework(name)
                plain = [item for item in plain if item[0] != name]
            case ("forget_agent", agent):
                table.forget_agent(agent)
                plain = [item for item in plain if item[1] != agent]
            case ("wait", seconds):
                now += seconds
        for agent in "abc":
            for amount in (1, 2, 3):
                free = Resources.parse(f"cpus:{amount}")
                mask = blocked(table, agent, free, now)
                for name in "fgh":
                    held = any(
                        its == name and where == agent and until > now and free in refused
                        for its, where, refused, until in plain
                    )
                    assert bool(mask & bit(table, name)) == held


# Constraints


def features(**more: Any) -> Features:
    info = {
        "hostname": "node-1",
        "attributes": [
            {"name": "rack", "type": "TEXT", "text": {"value": "r1"}},
            {"name": "rack", "type": "TEXT", "text": {"value": "r2"}},
            {"name": "level", "type": "SCALAR", "scalar": {"value": 3}},
        ],
        **more,
    }
    return Features.of(from_json(AgentInfo, info))


def admits(selector: Any, predicate: Any, where: Features | None = None) -> bool:
    groups = [{"attribute_constraints": [{"selector": selector, "predicate": predicate}]}]
    message = from_json(OfferConstraints, {"role_constraints": {"*": {"groups": groups}}})
    return compiled(message, LIMITS)["*"].admits(where or features())


RACK = {"attribute_name": "rack"}
LEVEL = {"attribute_name": "level"}
NONE = {"attribute_name": "none"}
HOST = {"pseudoattribute_type": "HOSTNAME"}
REGION = {"pseudoattribute_type": "REGION"}
ZONE = {"pseudoattribute_type": "ZONE"}


@pytest.mark.parametrize(
    ("selector", "predicate", "expected"),
    [
        (RACK, {"exists": {}}, True),
        (NONE, {"exists": {}}, False),
        (RACK, {"not_exists": {}}, False),
        (NONE, {"not_exists": {}}, True),
        (RACK, {"text_equals": {"value": "r1"}}, True),
        (RACK, {"text_equals": {"value": "r2"}}, False),  # the first of that name counts
        (NONE, {"text_equals": {"value": "r1"}}, False),
        (LEVEL, {"text_equals": {"value": "r1"}}, True),  # no text: it passes
        (RACK, {"text_not_equals": {"value": "r1"}}, False),
        (NONE, {"text_not_equals": {"value": "r1"}}, True),
        (LEVEL, {"text_not_equals": {"value": "3"}}, True),
        (RACK, {"text_matches": {"regex": "r[0-9]"}}, True),
        (RACK, {"text_matches": {"regex": "r"}}, False),  # the whole text must match
        (NONE, {"text_matches": {"regex": ".*"}}, False),
        (LEVEL, {"text_matches": {"regex": "x"}}, True),
        (RACK, {"text_not_matches": {"regex": "r[0-9]"}}, False),
        (NONE, {"text_not_matches": {"regex": ".*"}}, True),
        (HOST, {"text_equals": {"value": "node-1"}}, True),
        (HOST, {"text_matches": {"regex": "node-[2-9]"}}, False),
        (REGION, {"exists": {}}, False),
        (ZONE, {"not_exists": {}}, True),
    ],
)
def test_predicates(selector: Any, predicate: Any, expected: bool) -> None:
    assert admits(selector, predicate) is expected


def test_regions_and_zones_are_pseudo_attributes() -> None:
    where = features(domain={"fault_domain": {"region": {"name": "eu"}, "zone": {"name": "eu-1"}}})

    assert admits(REGION, {"text_equals": {"value": "eu"}}, where)
    assert admits(ZONE, {"text_matches": {"regex": "eu-."}}, where)


def test_any_group_is_enough_and_all_of_its_tests_must_hold() -> None:
    def test(name: str, value: str) -> Any:
        return {
            "selector": {"attribute_name": name},
            "predicate": {"text_equals": {"value": value}},
        }

    groups = [
        {"attribute_constraints": [test("rack", "r1"), test("none", "x")]},
        {"attribute_constraints": [test("rack", "r1")]},
    ]

    def verdict(chosen: list[Any]) -> bool:
        message = from_json(OfferConstraints, {"role_constraints": {"*": {"groups": chosen}}})
        return compiled(message, LIMITS)["*"].admits(features())

    assert verdict(groups)
    assert not verdict(groups[:1])


@pytest.mark.parametrize(
    ("constraints", "problem"),
    [
        ({"*": {}}, "empty 'RoleConstraints::groups'"),
        ({"*": {"groups": [{}]}}, "an empty RoleConstraints::Group"),
        (
            {"*": {"groups": [{"attribute_constraints": [{"selector": {}, "predicate": {}}]}]}},
            "Exactly one of",
        ),
        (
            {"*": {"groups": [{"attribute_constraints": [{"selector": RACK, "predicate": {}}]}]}},
            "Unknown predicate type",
        ),
    ],
)
def test_constraints_that_cannot_be_are_refused(constraints: Any, problem: str) -> None:
    message = from_json(OfferConstraints, {"role_constraints": constraints})

    with pytest.raises(InvalidError, match=problem):
        compiled(message, LIMITS)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "Failed to construct regex"),
        (r"(a)\1", "Failed to construct regex"),  # RE2 knows no references back
        ("(?=a)", "Failed to construct regex"),
        ("[a-z]{110}", "too complex"),
        ("(a{1,30}){1,30}", "Failed to construct regex"),
    ],
)
def test_patterns_that_cost_much_are_refused(pattern: str, problem: str) -> None:
    with pytest.raises(InvalidError, match=problem):
        regex(pattern, LIMITS)


def test_a_pattern_may_cost_more_where_the_operator_says_so() -> None:
    assert regex("[a-z]{110}", RegexLimits(1 << 20, 1000))("x" * 110)


# Room


def test_within_takes_no_more_than_there_is_room_for() -> None:
    many = Resources.parse("cpus:4;mem:64;ports:[1-9];cpus(web):2")

    assert within(many, {"cpus": 1500}) == Resources.parse(
        "cpus:1.5;mem:64;ports:[1-9];cpus(web):2"
    )
    assert within(many, {"cpus": 0}) == Resources.parse("mem:64;ports:[1-9];cpus(web):2")
    assert within(many, {"cpus": 9000, "gpus": 0}) is many


def test_a_mount_fits_as_a_whole_or_not_at_all() -> None:
    mount = {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": 100},
        "disk": {"source": {"type": "MOUNT", "mount": {"root": "/mnt"}}},
    }
    many = Resources.of([from_json(Resource, mount)]) + Resources.parse("disk:50")

    assert within(many, {"disk": 90_000}) == Resources.parse("disk:50")
    assert within(many, {"disk": 120_000}).scalars == {"disk": 120_000}


def test_a_tree_may_have_what_it_lacks_and_others_what_is_beyond() -> None:
    quotas = {"eng": Quota({"cpus": 4000}, {"cpus": 6000}), "web": Quota({"cpus": 1000})}
    budget = Budget(quotas, {"eng": {"cpus": 1000}}, {"cpus": 8000})

    assert budget.room("eng/dev") == {"cpus": 5000}  # by its limit
    assert budget.room("web") == {"cpus": 5000}  # but not the 3 that eng lacks
    assert budget.room("other") == {"cpus": 4000}

    budget.charge("eng/dev", {"cpus": 3000})

    assert not budget.is_lacking("eng")
    assert budget.room("eng") == {"cpus": 2000}
    assert budget.room("other") == {"cpus": 4000}


def test_without_quota_there_are_no_bounds() -> None:
    assert Budget({"eng": Quota()}, {}, {}).room("web") is None


# The whitelist


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', {"a", "b"}),
        ("a\n b \n\n", {"a", "b"}),
        ("", set[str]()),
        ("*", None),
        ('["a", "*"]', None),
    ],
)
def test_whitelist_is_json_or_lines(text: str, expected: set[str] | None) -> None:
    assert parse_whitelist(text) == expected


@pytest.mark.parametrize("text", ["[1]", "[", '["a"'])
def test_whitelist_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="whitelist"):
        parse_whitelist(text)


def test_whitelist_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="nowhere"):
        read_whitelist(tmp_path / "nowhere")


def test_tests_may_be_shared() -> None:
    """A verdict is remembered for each pair of constraint and agent, not for one of them."""
    make: Callable[[str], OfferConstraints] = lambda value: from_json(  # noqa: E731
        OfferConstraints,
        {
            "role_constraints": {
                "*": {
                    "groups": [
                        {
                            "attribute_constraints": [
                                {"selector": RACK, "predicate": {"text_equals": {"value": value}}}
                            ]
                        }
                    ]
                }
            }
        },
    )
    one, other = compiled(make("r1"), LIMITS)["*"], compiled(make("r9"), LIMITS)["*"]
    where = features()

    assert (one.admits(where), other.admits(where), one.admits(where)) == (True, False, True)
