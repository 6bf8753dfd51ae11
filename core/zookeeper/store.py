"""The durable store on ZooKeeper: keys are nodes, writes are fenced (reference mesos §4.8)."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from kazoo.exceptions import (
    BadVersionError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)

from phalanx.core.error import InvalidError, UnavailableError
from phalanx.core.store.group import Change, GroupCommit, Outcome
from phalanx.core.store.store import ABSENT, Stored, conflict
from phalanx.core.zookeeper.many import GetMany, ListMany, Node, Reads
from phalanx.core.zookeeper.session import (
    RETRY_SECONDS,
    UnknownRequestError,
    ZooKeeper,
    words_of,
)

T = TypeVar("T")

_Found = tuple[Stored | None, bool]  # a node's value, and whether it has children

VALUE = b"="  # first byte of a node that holds a value; a node that is only a parent is empty
# Nodes in one request: a server holds the whole answer in memory, and kazoo sends no sign of life
# while it reads one. The first request shows how large nodes are, the next ones go by that.
FIRST_READS, MOST_READS = 16, 64
ANSWER_BYTES = 1 << 20
PARTS_AT_ONCE = 4
MOST_BYTES = 900 * 1024  # of one value; ZooKeeper ends connections that carry more than 1 MiB


class ZooKeeperStore:
    """A Store whose keys are nodes below a path; ZooKeeper's version plus one is ours.

    With *fence*, the path of a node, every write is a transaction that happens
    only while that node is there. The candidate node of a leader is there as
    long as it leads, so that a deposed leader, however late it wakes up, can't
    write. Reads are not fenced. Who writes behind a fence writes alone, so that
    nodes it has written need no look before they are written again.
    """

    def __init__(self, session: ZooKeeper, path: str, *, fence: str | None = None) -> None:
        self._session = session
        self._client = session.client
        self._path = path
        self._fence = fence
        self._parents: set[str] = set()
        self._known: dict[str, _Found] = {}  # nodes that we wrote last, without their values
        self._group = GroupCommit(self._commit)

    def fenced_by(self, node: str) -> "ZooKeeperStore":
        """Return the same store, which can be written only while *node* is there."""
        return ZooKeeperStore(self._session, self._path, fence=node)

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None."""
        found = await self._read(f"{self._path}/{key}")
        return None if found is None else found[0]

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""
        rows: dict[str, Stored] = {}
        parents = [prefix]
        while parents:
            listed = await self._children_of(parents)
            keys = [
                f"{parent}/{child}"
                for parent, names in zip(parents, listed, strict=True)
                for child in names
            ]
            found = await self._read_all(keys)
            parents = []
            for key, answer in zip(keys, found, strict=True):
                if answer is None:
                    continue
                row, has_children = answer
                if row is not None:
                    rows[key] = row
                if has_children:
                    parents.append(key)
        return dict(sorted(rows.items()))

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version; ConflictError if *version* is not the current."""
        if len(value) > MOST_BYTES:
            raise InvalidError(f"{key}: {len(value)} bytes are more than {MOST_BYTES}")
        return await self._group.submit(Change(key, value, version))

    async def remove(self, key: str) -> None:
        """Remove *key* if it is there; keys below it stay."""
        await self._group.submit(Change(key, None))

    async def close(self) -> None:
        """Finish what is being written; the session is its opener's to end."""
        await self._group.drain()

    async def _read(self, node: str) -> _Found | None:
        """Return the value of a node and whether it has children; None without the node."""
        try:
            return _found(await self._session.persist(lambda: self._client.get_async(node)))
        except NoNodeError:
            return None

    async def _read_all(self, keys: Sequence[str]) -> Sequence[_Found | None]:
        """Return the same of many keys."""
        nodes = await self._ask_many(GetMany, keys)
        return [None if node is None else _found(node) for node in nodes]

    async def _children_of(self, keys: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return the names of the nodes below each of *keys*."""
        return [names or () for names in await self._ask_many(ListMany, keys)]

    async def _ask_many(self, kind: type[Reads[T]], keys: Sequence[str]) -> Sequence[T | None]:
        """Ask the same of many nodes, in as few requests as their answers allow."""
        paths = [f"{self._path}/{key}" for key in keys]
        answers: list[T | None] = []
        size, at_once = FIRST_READS, 1
        while len(answers) < len(paths):
            start, stop = len(answers), min(len(paths), len(answers) + size * at_once)
            parts = [paths[at : min(at + size, stop)] for at in range(start, stop, size)]
            for found in await asyncio.gather(*(self._ask_part(kind, part) for part in parts)):
                answers += found
            mean = sum(map(_bytes_of, answers[start:])) // (stop - start) + 1
            size, at_once = min(MOST_READS, ANSWER_BYTES // mean or 1), PARTS_AT_ONCE
        return answers

    async def _ask_part(self, kind: type[Reads[T]], paths: Sequence[str]) -> Sequence[T | None]:
        if self._session.reads_many:
            with suppress(UnknownRequestError):  # we may have come to an older server meanwhile
                part: Sequence[T | None] = await self._session.persist(
                    lambda: kind(paths).ask(self._client)
                )
                return part
        asked = [self._ask_one(kind, path) for path in paths]
        return await asyncio.gather(*asked)

    async def _ask_one(self, kind: type[Reads[T]], path: str) -> T | None:
        try:
            one: T = await self._session.persist(lambda: kind.ask_one(self._client, path))
        except NoNodeError:
            return None
        return one

    async def _commit(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """Write a batch in one transaction, again if somebody else was faster.

        A connection that breaks leaves it open whether the transaction was
        made: then it is tried again, and a change that is found made counts as
        made, until the time of a store is over.
        """
        unsure: set[str] = set()
        seconds = self._session.store_seconds
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        outcomes = await self._commit_once(batch, unsure)
                    except _Unsure:
                        unsure.update(change.key for change in batch)
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
                    if outcomes is not None:
                        return outcomes
        except TimeoutError as error:
            raise UnavailableError(f"zookeeper: no answer in {seconds:g} s") from error

    async def _commit_once(
        self, batch: Sequence[Change], unsure: set[str]
    ) -> Sequence[Outcome] | None:
        """Return the outcomes, or None when the nodes changed under our hands."""
        nodes = [f"{self._path}/{change.key}" for change in batch]
        await self._make_parents(nodes)
        found = await asyncio.gather(
            *(
                self._look(node, afresh=change.version is not None or change.key in unsure)
                for change, node in zip(batch, nodes, strict=True)
            )
        )
        transaction = self._client.transaction()
        if self._fence is not None:
            transaction.check(self._fence, -1)
        outcomes: list[Outcome] = []
        for change, node, answer in zip(batch, nodes, found, strict=True):
            row = None if answer is None else answer[0]
            current = ABSENT if row is None else row.version
            is_made = (change.key in unsure and row is not None and row.value == change.value) or (
                change.value is None and row is None
            )
            if is_made:
                outcomes.append(current)
            elif change.version is not None and change.version != current:
                outcomes.append(conflict(change.key, current, change.version))
            elif change.value is not None:
                outcomes.append(self._add_put(transaction, node, change.value, row, answer))
            else:
                outcomes.append(ABSENT)
                if answer is not None and answer[1]:
                    transaction.set_data(node, b"")
                else:
                    transaction.delete(node, current - 1)
        if len(transaction.operations) <= (self._fence is not None):
            return outcomes  # nothing is left to write
        if not await self._is_done(transaction):
            return None
        for change, node, answer, outcome in zip(batch, nodes, found, outcomes, strict=True):
            self._learn(change, node, answer, outcome)
        return outcomes

    async def _look(self, node: str, *, afresh: bool) -> _Found | None:
        """Return whether a node is there, and its version; its value only *afresh*."""
        known = None if afresh else self._known.get(node)
        return known or await self._read(node)

    def _learn(self, change: Change, node: str, before: _Found | None, outcome: Outcome) -> None:
        """Remember the version that a node has now, if it is ours alone to change."""
        self._known.pop(node.rpartition("/")[0], None)  # it may have children now
        is_counted = before is None or before[0] is not None
        if self._fence and change.value is not None and isinstance(outcome, int) and is_counted:
            self._known[node] = Stored(b"", outcome), before is not None and before[1]
        else:
            self._known.pop(node, None)

    def _add_put(
        self,
        transaction: Any,  # noqa: ANN401 - kazoo has no types
        node: str,
        value: bytes,
        row: Stored | None,
        answer: tuple[Stored | None, bool] | None,
    ) -> int:
        """Add the put of one node to a transaction; return the version that it will have."""
        if answer is None:
            transaction.create(node, VALUE + value, acl=list(self._session.acl))
            return ABSENT + 1
        if row is None:  # a parent of other keys becomes a key; its version is unknown
            transaction.set_data(node, VALUE + value)
            return ABSENT + 1
        transaction.set_data(node, VALUE + value, version=row.version - 1)
        return row.version + 1

    async def _is_done(self, transaction: Any) -> bool:  # noqa: ANN401 - kazoo has no types
        """Commit; tell whether it was made; raise UnavailableError behind a broken fence."""
        try:
            answers = await self._session.ask(transaction.commit_async)
        except UnavailableError as error:
            self._known.clear()
            raise _Unsure(str(error)) from error
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if not failures:
            return True
        if self._fence is not None and isinstance(answers[0], NoNodeError):
            raise UnavailableError("zookeeper: this master leads no more and must not write")
        known = (
            NoNodeError,
            NodeExistsError,
            BadVersionError,
            RolledBackError,
            RuntimeInconsistency,
        )
        for failure in failures:
            if not isinstance(failure, known):
                raise UnavailableError(f"zookeeper: {words_of(failure)}")
        self._parents.clear()
        self._known.clear()
        return False

    async def _make_parents(self, nodes: Sequence[str]) -> None:
        missing = {node.rpartition("/")[0] for node in nodes} - self._parents
        await asyncio.gather(*(self._session.ensure(parent) for parent in missing))
        self._parents |= missing


def _found(node: Node) -> _Found:
    data, stat = node
    row = Stored(data[len(VALUE) :], stat.version + 1) if data.startswith(VALUE) else None
    return row, stat.children_count > 0


def _bytes_of(answer: object) -> int:
    """Return about how many bytes a node's part of an answer has."""
    if isinstance(answer, tuple):
        return len(answer[0])
    return sum(map(len, answer)) if isinstance(answer, list) else 0


class _Unsure(Exception):
    """Nobody knows whether a transaction was made."""
