"""The collection of sandboxes, on real directories with a clock of the test's own."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.agent.container.sandbox import link_latest
from phalanx.agent.gc import Collector, Patience, allowed_age, disk_usage
from phalanx.agent.layout import Layout

WEEK = 7 * 86400.0


@pytest.mark.parametrize(
    ("usage", "age"), [(0.0, 0.9 * WEEK), (0.4, 0.5 * WEEK), (0.9, 0.0), (1.0, 0.0)]
)
def test_sandboxes_go_earlier_as_the_disk_fills(usage: float, age: float) -> None:
    assert allowed_age(WEEK, 0.1, usage) == pytest.approx(age)


@given(
    headroom=st.floats(0, 1), less=st.floats(0, 1), more=st.floats(0, 1), delay=st.floats(0, WEEK)
)
def test_a_fuller_disk_never_keeps_longer(
    headroom: float, less: float, more: float, delay: float
) -> None:
    low, high = sorted((less, more))

    assert 0.0 <= allowed_age(delay, headroom, high) <= allowed_age(delay, headroom, low) <= delay


class Place:
    """A work directory with sandboxes of three runs, one of them in use."""

    def __init__(self, base: Path) -> None:
        self.now = 1000.0
        self.usage = 0.0
        self.layout = Layout(base, base / "runtime")
        self.used = {"running"}
        for agent, task, run in (("S0", "a", "old"), ("S1", "b", "new"), ("S1", "b", "running")):
            self.run(agent, task, run).mkdir(parents=True)
            (self.run(agent, task, run) / "stdout").write_text("x")
            os.utime(self.run(agent, task, run), (500.0, 500.0))
        self.collector = Collector(
            self.layout,
            Patience(delay_seconds=1000.0, headroom=0.1, interval_seconds=1.0),
            in_use=lambda: self.used,
            clock=lambda: self.now,
            usage=lambda _: self.usage,
        )

    def run(self, agent: str, task: str, run: str) -> Path:
        return self.layout.sandbox(agent, ("f", task), run)


def test_old_sandboxes_go_with_all_that_led_to_them(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.collector.ended(place.run("S1", "b", "new"))
    (place.run("S0", "a", "old").parent / "latest").symlink_to("old")
    place.now = 1450.0
    place.collector.collect()

    assert not (tmp_path / "slaves" / "S0").exists()
    assert place.run("S1", "b", "new").is_dir()
    assert place.run("S1", "b", "running").is_dir()
    assert (place.collector.succeeded, place.collector.pending, place.collector.failed) == (1, 1, 0)


def test_a_full_disk_keeps_nothing_but_what_is_used(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.usage = 0.95
    place.collector.collect()

    assert [path.name for path in tmp_path.glob("slaves/*/frameworks/*/executors/*/runs/*")] == [
        "running"
    ]
    assert place.collector.age_seconds == 0.0


def test_a_restarted_agent_goes_on_counting(tmp_path: Path) -> None:
    first = Place(tmp_path)
    first.collector.ended(first.run("S0", "a", "old"))
    second = Collector(
        first.layout,
        Patience(1000.0, 0.1, 1.0),
        in_use=lambda: {"running", "new"},
        clock=lambda: 1899.0,
        usage=lambda _: 0.0,
    )
    second.collect()
    assert first.run("S0", "a", "old").is_dir()
    second._clock = lambda: 1901.0
    second.collect()
    assert not first.run("S0", "a", "old").exists()


def test_the_disk_in_use_is_a_share(tmp_path: Path) -> None:
    assert 0.0 <= disk_usage(tmp_path) <= 1.0


def test_latest_leads_to_the_last_run(tmp_path: Path) -> None:
    first, second = (tmp_path / "runs" / name for name in ("one", "two"))
    for run in (first, second):
        run.mkdir(parents=True)
        link_latest(run)

    assert (tmp_path / "runs" / "latest").readlink() == Path("two")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["latest", "one", "two"]


def test_a_nested_sandbox_has_no_latest_beside_it(tmp_path: Path) -> None:
    nested = tmp_path / "runs" / "one" / "containers" / "two"
    nested.mkdir(parents=True)

    link_latest(nested)

    assert [path.name for path in nested.parent.iterdir()] == ["two"]
