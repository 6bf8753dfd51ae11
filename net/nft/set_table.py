"""A table of constant rules over sets, as a Dataplane of the sets' elements."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.nft.element import RULES, Element, parse_elements, render_change
from phalanx.net.nft.layout import Layout
from phalanx.net.nft.library import Nft
from phalanx.net.nft.staged import Staged
from phalanx.net.nft.structure import read_structure

KINDS = ("chain", "map", "set")
_OBJECT = re.compile(r"^ *(chain|map|set) (\w+) ", re.MULTILINE)


MOST_REFUSALS = 16  # each costs some trials; with more, it is not the elements that are wrong

# What changes of one key: an element that goes, one that comes, or one in the other's place.
Unit = tuple[Element | None, Element | None]
Script = Callable[[Sequence[Unit]], str]


class RefusedError(Exception):
    """Elements that the kernel does not take; all others are there."""


class KernelSetTable:
    """A Dataplane of the elements of one table; RULES stands for all the rest of it.

    A table that is missing, or whose chains, rules or sets are not as the
    kernel had them after we made them, reads as empty; then its rules are
    made anew and its elements corrected in one transaction: there is never a
    moment with half of it. This process knows how the kernel has its rules
    only once it has made them, so the first pass after a start makes them anew, too.
    """

    def __init__(self, nft: Nft, layout: Layout) -> None:
        self.name = layout.table
        self._nft = nft
        self._body = layout.body
        self._made: int | None = None  # the structure of the table as we made it

    async def read(self) -> Mapping[Element, None]:
        """Return the elements and RULES; nothing if the rules are not as we make them."""
        if self._made is None or await self._structure() != self._made:
            return {}
        return dict.fromkeys(await self.elements())

    async def elements(self) -> set[Element]:
        """Return what its sets hold and RULES, whatever its rules are like; nothing without it."""
        listing = await self._list()
        return {RULES, *parse_elements(listing)} if listing else set()

    async def apply(self, change: Delta[Element, None]) -> None:
        """Make the change as one transaction, one that is staged as one for each stage.

        What the kernel refuses of it for its own sake is left out and named in
        the error, so that one element that is wrong does not hold up the others. A
        transaction that is refused for another reason changes nothing.
        """
        if isinstance(change, Staged):  # of the elements of a table that stands
            for stage in change.stages:
                await self._change(list(stage.removals), list(stage.upserts))
            return
        upserts = [each for each in change.upserts if each != RULES]
        if RULES in change.removals:
            await self._run(_absent(self.name))
            self._made = None
        elif RULES in change.upserts:
            await self._rebuild(upserts)
        else:
            await self._change(list(change.removals), upserts)

    async def _rebuild(self, elements: Sequence[Element]) -> None:
        """Make the table right, whatever is there.

        Sets that are there stay and are corrected: the elements of a new set
        are seen some moments after the rules that look them up, so sets made
        anew in a table that is in force would be a gap.
        """
        self._made = None
        listing = await self._list()

        def corrected(units: Sequence[Unit]) -> str:
            return _corrected(self.name, self._body, listing, [e for _, e in units if e])

        def fresh(units: Sequence[Unit]) -> str:
            whole = f"{_absent(self.name)}{_defined(self.name, self._body)}"
            return whole + render_change("add", self.name, [e for _, e in units if e])

        units: list[Unit] = [(None, each) for each in elements]
        refusals = ""
        try:
            try:
                await self._transact(corrected, units)
            except DataplaneError:
                if await self._refusal(corrected(())) is None:
                    raise
                # Sets of another kind than ours have their names: none is worth keeping.
                await self._transact(fresh, units)
        except RefusedError as error:
            refusals = str(error)
        self._made = await self._structure()
        if refusals:
            raise DataplaneError(refusals, table=self.name)

    async def _change(self, removals: Sequence[Element], upserts: Sequence[Element]) -> None:
        by_key = {(each.set_name, each.fields): each for each in removals}
        units: list[Unit] = [
            (by_key.pop((each.set_name, each.fields), None) if by_key else None, each)
            for each in upserts
        ]
        units += [(each, None) for each in by_key.values()]
        try:
            await self._transact(self._script, units)
        except RefusedError as error:
            raise DataplaneError(str(error), table=self.name) from error

    def _script(self, units: Sequence[Unit]) -> str:
        gone = [element for element, _ in units if element]
        return render_change("delete", self.name, gone) + render_change(
            "add", self.name, [element for _, element in units if element]
        )

    async def _transact(self, script: Script, units: Sequence[Unit]) -> None:
        """Run one transaction with all of *units* that the kernel takes.

        Raises RefusedError, with the rest done, for those that it does not take,
        and DataplaneError, with nothing done, when it refuses for another reason.
        """
        try:
            await self._run(script(units))
        except DataplaneError:
            if await self._refusal(script(units)) is None:
                raise
            if await self._refusal(script(())) is not None:
                raise
        else:
            return
        if self._made is not None and await self._structure() is None:
            raise DataplaneError("the table is gone", table=self.name)
        good: list[Unit] = []
        refusals: list[str] = []
        await self._sort_out(script, sorted(units, key=repr), good, refusals)
        await self._run(script(good))
        raise RefusedError("; ".join(refusals))

    async def _sort_out(
        self, script: Script, units: Sequence[Unit], good: list[Unit], refusals: list[str]
    ) -> None:
        """Put each of *units* among the *good*, or its refusal among *refusals*."""
        reason = await self._refusal(script([*good, *units]))
        if reason is None:
            good += units
        elif len(refusals) == MOST_REFUSALS:
            raise DataplaneError("; ".join(refusals), table=self.name)
        elif len(units) == 1:
            [(gone, come)] = units
            refusals.append(f"{'delete' if come is None else 'add'} {come or gone}: {reason}")
        else:
            half = len(units) // 2
            await self._sort_out(script, units[:half], good, refusals)
            await self._sort_out(script, units[half:], good, refusals)

    async def _refusal(self, script: str) -> str | None:
        """Return why the kernel would refuse a transaction, None if it would not."""
        try:
            await self._nft.check(script, table=self.name)
        except DataplaneError as error:
            return str(error).removeprefix(f"{self.name}: ")
        return None

    async def _list(self) -> Sequence[dict[str, Any]]:
        return await self._nft.read(f"list table inet {self.name}", table=self.name)

    async def _structure(self) -> int | None:
        try:
            return await self._nft.open(lambda: read_structure(self.name))
        except OSError as error:
            raise DataplaneError(f"reading the table: {error}", table=self.name) from error

    async def _run(self, script: str) -> None:
        await self._nft.run(script, table=self.name)


class MemorySetTable:
    """A Dataplane that behaves like KernelSetTable, but for overlaps, which it does not see."""

    def __init__(self, layout: Layout) -> None:
        self.name = layout.table
        self._elements: set[Element] = set()

    async def read(self) -> Mapping[Element, None]:
        """Return the elements and RULES."""
        return dict.fromkeys(self._elements)

    async def apply(self, change: Delta[Element, None]) -> None:
        """Make the change; elements without RULES are refused, for there is no table."""
        if RULES in change.removals:
            self._elements.clear()
            return
        if RULES in change.upserts:
            self._elements.clear()
        elif RULES not in self._elements:
            raise DataplaneError("there is no such table", table=self.name)
        self._elements -= change.removals
        self._elements |= change.upserts.keys()


def _absent(table: str) -> str:
    """Return the commands after which there is no such table, whether there was one or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def _defined(table: str, body: str) -> str:
    return f"table inet {table} {{\n{body}}}\n"


def _corrected(
    table: str, body: str, listing: Sequence[Mapping[str, Any]], elements: Sequence[Element]
) -> str:
    """Return the commands that make the table of *listing* ours, its sets kept.

    Rules are all written again, chains and sets that are not ours go.
    """
    ours = set(_OBJECT.findall(body))
    there = {(kind, item[kind]["name"]) for item in listing for kind in KINDS if kind in item}
    strays = sorted(there - ours)  # chains before the sets that they may look up
    kept = {name for kind, name in ours & there if kind != "chain"}
    present = {item for item in parse_elements(listing) if item.set_name in kept}
    return (
        f"add table inet {table}\nflush table inet {table}\n"
        + "".join(f"delete {kind} inet {table} {name}\n" for kind, name in strays)
        + _defined(table, body)
        + render_change("delete", table, present - set(elements))
        + render_change("add", table, set(elements) - present)
    )
