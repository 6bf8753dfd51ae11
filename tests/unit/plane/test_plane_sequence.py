"""Tables are reconciled in order, and what one of them suffers is its own."""

import asyncio
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.plane.sequence import TableSequence


class Rows:
    """A dataplane that writes down when it is changed, and fails as it is told."""

    def __init__(self, name: str, journal: list[str], error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self._journal = journal
        self._rows: dict[str, int] = {}

    async def read(self) -> Mapping[str, int]:
        return dict(self._rows)

    def drift(self) -> None:
        self._rows.clear()

    async def apply(self, change: Delta[str, int]) -> None:
        if self.error is not None:
            raise self.error
        self._journal.append(self.name)
        self._rows.update(change.upserts)


async def begin() -> None:
    pass


def sequence_of(
    *tables: Rows, desired: Mapping[str, int], outcomes: list[Mapping[str, bool]]
) -> tuple[TableSequence, CollectorRegistry]:
    registry = CollectorRegistry()
    reconcilers: list[Reconciler[Any, Any]] = [
        Reconciler(table, lambda: dict(desired)) for table in tables
    ]

    async def done(outcome: Mapping[str, bool]) -> None:
        outcomes.append(outcome)

    sequence = TableSequence(
        reconcilers,
        begin=begin,
        done=done,
        resync_seconds=60,
        registry=registry,
    )
    return sequence, registry


async def test_tables_are_reconciled_in_their_order() -> None:
    journal: list[str] = []
    outcomes: list[Mapping[str, bool]] = []
    tables = [Rows(name, journal) for name in ("links", "routes", "services")]
    sequence, _ = sequence_of(*tables, desired={"a": 1}, outcomes=outcomes)

    assert await sequence.run_once(resync=True)

    assert journal == ["links", "routes", "services"]
    assert outcomes == [{"links": True, "routes": True, "services": True}]


async def test_a_refusal_and_a_bug_cost_only_their_own_table() -> None:
    journal: list[str] = []
    outcomes: list[Mapping[str, bool]] = []
    sequence, registry = sequence_of(
        Rows("refused", journal, DataplaneError("no", table="refused")),
        Rows("broken", journal, ValueError("a bug")),
        Rows("good", journal),
        desired={"a": 1},
        outcomes=outcomes,
    )

    assert not await sequence.run_once(resync=True)

    assert journal == ["good"]
    assert outcomes == [{"refused": False, "broken": False, "good": True}]
    name = "phalanx_plane_reconcile_failures_total"
    assert registry.get_sample_value(name, {"table": "broken"}) == 1


async def test_a_failed_table_is_tried_again_without_a_poke() -> None:
    journal: list[str] = []
    passes: list[Mapping[str, bool]] = []
    flaky = Rows("flaky", journal, ValueError("a bug"))
    is_well = asyncio.Event()

    async def done(outcome: Mapping[str, bool]) -> None:
        passes.append(outcome)
        flaky.error = None
        if outcome["flaky"]:
            is_well.set()

    sequence = TableSequence(
        [Reconciler(flaky, lambda: {"a": 1})],
        begin=begin,
        done=done,
        resync_seconds=60,
        registry=CollectorRegistry(),
    )
    running = asyncio.ensure_future(sequence.run())
    async with asyncio.timeout(60):
        await is_well.wait()
    running.cancel()

    assert passes == [{"flaky": False}, {"flaky": True}]


async def test_a_pass_that_could_not_be_ended_is_made_again() -> None:
    ends: list[Mapping[str, bool]] = []
    is_well = asyncio.Event()

    async def done(outcome: Mapping[str, bool]) -> None:
        ends.append(outcome)
        if len(ends) == 1:
            raise ValueError("a bug")
        is_well.set()

    sequence = TableSequence(
        [Reconciler(Rows("rows", []), lambda: {"a": 1})],
        begin=begin,
        done=done,
        resync_seconds=60,
        registry=CollectorRegistry(),
    )
    running = asyncio.ensure_future(sequence.run())
    async with asyncio.timeout(60):
        await is_well.wait()
    running.cancel()

    assert ends == [{"rows": True}, {"rows": True}]


async def test_a_pass_without_resync_leaves_settled_tables_alone() -> None:
    journal: list[str] = []
    wanted = {"a": 1}
    rows = Rows("rows", journal)
    sequence, _ = sequence_of(rows, desired=wanted, outcomes=[])
    await sequence.run_once(resync=True)

    await sequence.run_once(resync=False)
    assert journal == ["rows"]

    wanted["b"] = 2
    await sequence.run_once(resync=False)
    assert journal == ["rows", "rows"]


async def test_suspects_are_read_back_and_nothing_else_is() -> None:
    journal: list[str] = []
    tables = [Rows(name, journal) for name in ("links", "routes")]
    sequence, _ = sequence_of(*tables, desired={"a": 1}, outcomes=[])
    await sequence.run_once(resync=True)
    for table in tables:
        table.drift()
    journal.clear()

    sequence.suspect(["routes"])
    await sequence.run_once(resync=False)
    assert journal == ["routes"]

    await sequence.run_once(resync=False)
    assert journal == ["routes"]
