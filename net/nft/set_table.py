"""A table of constant rules over sets, as a Dataplane of the sets' elements."""

import re
from collections.abc import Mapping, Sequence
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

        When the kernel refuses it, each element is tried alone, so that one
        that is wrong does not hold up the others.
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
        rest: Sequence[Element] = ()
        try:
            await self._run(_corrected(self.name, self._body, await self._list(), elements))
        except DataplaneError:
            fresh = f"{_absent(self.name)}{_defined(self.name, self._body)}"
            try:
                await self._run(fresh + render_change("add", self.name, elements))
            except DataplaneError:
                await self._run(fresh)
                rest = elements
        self._made = await self._structure()
        await self._change_singly((), rest)

    async def _change(self, removals: Sequence[Element], upserts: Sequence[Element]) -> None:
        delete = render_change("delete", self.name, removals)
        try:
            await self._run(delete + render_change("add", self.name, upserts))
        except DataplaneError:
            await self._change_singly(removals, upserts)

    async def _change_singly(self, removals: Sequence[Element], upserts: Sequence[Element]) -> None:
        refusals: list[str] = []
        for verb, elements in (("delete", removals), ("add", upserts)):
            for element in sorted(elements):
                try:
                    await self._run(render_change(verb, self.name, [element]))
                except DataplaneError as error:
                    reason = str(error).removeprefix(f"{self.name}: ")
                    refusals.append(f"{verb} {element}: {reason}")
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)

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
