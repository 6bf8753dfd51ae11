"""Instances on disk: several of one app or pod in a row, written together if changed together."""

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.core.store.store import Store
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.path import safe_form

PREFIX = "instances"
SLICE_ROWS = 20  # read in a row, in a few milliseconds
MOST_TASKS = 32  # in a page: each may tell 10,000 characters, and ZooKeeper takes 1 MiB


class Pages:
    """Keeps instances in rows of at most 32 tasks.

    What changes in one page before the loop turns, or while the page is being written, is
    written at once. A change that fails leaves the row as it was.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shelves: dict[str, _Shelf] = {}  # by app or pod id
        self._of: dict[str, _Page] = {}  # by instance id

    async def load(self) -> Collection[Instance]:
        """Read all; raise UnavailableError for a row that can't be read."""
        found: dict[str, Instance] = {}
        for number, (key, row) in enumerate((await self._store.list(PREFIX)).items()):
            if not number % SLICE_ROWS:
                await asyncio.sleep(0)
            instances = _read(key, row.value)
            for instance in instances:
                found[instance.id] = instance
                shelf = self._shelf(instance.app_id)
                page = shelf.known(key)
                page.kept[instance.id] = instance
                self._lay(shelf, page, instance)
        return found.values()

    async def put(self, instance: Instance) -> None:
        """Keep *instance* as it is now."""
        page = self._of.get(instance.id)
        if page is None:
            shelf = self._shelf(instance.app_id)
            page = shelf.with_room()
            self._lay(shelf, page, instance)
        await self._change(page, instance.id, instance)

    async def remove(self, instance: Instance) -> None:
        """Forget *instance*, if it is kept."""
        page = self._of.get(instance.id)
        if page is None:
            return
        await self._change(page, instance.id, None)
        if self._of.pop(instance.id, None) is not None:
            shelf = self._shelves[instance.app_id]
            shelf.take_off(page, instance.id)
            if not shelf.pages:
                del self._shelves[instance.app_id]

    def _shelf(self, owner: str) -> "_Shelf":
        shelf = self._shelves.get(owner)
        if shelf is None:
            shelf = self._shelves[owner] = _Shelf(owner)
        return shelf

    def _lay(self, shelf: "_Shelf", page: "_Page", instance: Instance) -> None:
        self._of[instance.id] = page
        shelf.lay(page, instance)

    async def _change(self, page: "_Page", instance_id: str, after: Instance | None) -> None:
        page.changes[instance_id] = after
        if page.writing is None:
            page.writing = asyncio.create_task(self._write(page))
        await asyncio.shield(page.writing)

    async def _write(self, page: "_Page") -> None:
        """Write a page as it is once the write before is over."""
        async with page.lock:
            changes, page.changes, page.writing = page.changes, {}, None
            after = dict(page.kept)
            for id, changed in changes.items():
                if changed is None:
                    after.pop(id, None)
                else:
                    after[id] = changed
            if after:
                await self._store.put(page.key, msgspec.json.encode(list(after.values())))
            else:
                await self._store.remove(page.key)
            page.kept = after


class _Page:
    """One row: *kept* is on disk, *changes* wait for the next write, *tasks* lie here or will."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.kept: dict[str, Instance] = {}
        self.changes: dict[str, Instance | None] = {}
        self.tasks: dict[str, int] = {}
        self.total = 0
        self.writing: asyncio.Task[None] | None = None
        self.lock = asyncio.Lock()


class _Shelf:
    """The pages of one app or pod."""

    def __init__(self, owner: str) -> None:
        self.pages: dict[str, _Page] = {}
        self._open: dict[str, _Page] = {}  # those with room
        self._stem = f"{PREFIX}/{safe_form(owner)}"
        self._next = 0

    def known(self, key: str) -> _Page:
        """Return the page in the row *key*."""
        page = self.pages.get(key)
        if page is None:
            page = self.pages[key] = _Page(key)
        return page

    def with_room(self) -> _Page:
        """Return a page that takes one more instance."""
        for page in self._open.values():
            return page
        while (key := f"{self._stem}.{self._next}") in self.pages:
            self._next += 1
        return self.known(key)

    def lay(self, page: _Page, instance: Instance) -> None:
        """Count *instance* as one of those in *page*."""
        launched = instance.launched
        tasks = 1 if launched is None else max(1, len(launched.members))
        page.total += tasks - page.tasks.get(instance.id, 0)
        page.tasks[instance.id] = tasks
        self._sort(page)

    def take_off(self, page: _Page, instance_id: str) -> None:
        """Count an instance no more."""
        page.total -= page.tasks.pop(instance_id, 0)
        if not page.tasks:
            self.pages.pop(page.key, None)
        self._sort(page)

    def _sort(self, page: _Page) -> None:
        if page.tasks and page.total < MOST_TASKS:
            self._open[page.key] = page
        else:
            self._open.pop(page.key, None)


def _read(key: str, raw: bytes) -> Sequence[Instance]:
    """Return the instances of one row; an earlier Phalanx gave each a row of its own."""
    try:
        found = msgspec.json.decode(raw, type=Instance | list[Instance])
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnavailableError(f"state: {key} can't be read: {error}") from error
    return [found] if isinstance(found, Instance) else found
