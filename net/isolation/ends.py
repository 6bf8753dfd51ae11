"""Which addresses some selectors select; pure.

Each address has a **signature**: the selectors that select it, sorted. What is
looked up for an address in the kernel depends on its signature alone.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from phalanx.net.model.objects import IPAddress, Task
from phalanx.net.model.selector import App, Label, Selector, prefixes_of
from phalanx.net.model.view import View, touched

Signature = tuple[str, ...]
Span = tuple[int, int]  # first and last, both included
Labels = tuple[tuple[str, str], ...]
Pieces = Sequence[tuple[Span, Signature]]
Containers = Mapping[int, tuple[Task, ...]]  # by address, all of one IP version
Move = tuple[Task | None, Task | None]  # what a task was and is


@dataclass(frozen=True, slots=True)
class Ends:
    """The addresses of one IP version that some selectors select, with their signatures.

    *hosts* are those that selectors of tasks select, *pieces* the prefixes.
    """

    hosts: Mapping[int, Signature]
    pieces: Pieces
    fine: frozenset[str]  # the selectors of tasks
    counts: Mapping[Signature, int]  # how many hosts have each

    @property
    def signatures(self) -> set[Signature]:
        """Return the signatures of all addresses."""
        return self.counts.keys() | {each for _, each in self.pieces}


NOWHERE = Ends({}, (), frozenset(), {})


class Finder:
    """Some selectors, ready to be asked about many addresses."""

    def __init__(self, selectors: Mapping[str, Selector], view: View, version: int) -> None:
        self._labels: dict[tuple[str, str], str] = {}
        self._apps: dict[str, list[str]] = defaultdict(list)
        spans: list[tuple[Span, str]] = []
        for text, selector in selectors.items():
            if isinstance(selector, Label):
                self._labels[selector.label, selector.value] = text
            elif isinstance(selector, App):
                self._apps[selector.discovery_name].append(text)
            for prefix in prefixes_of(selector, view):
                if prefix.version == version:
                    first = int(prefix.network_address)
                    spans.append(((first, int(prefix.broadcast_address)), text))
        self.fine = frozenset(
            [*self._labels.values(), *(t for a in self._apps.values() for t in a)]
        )
        self.pieces: Pieces = _pieces(spans)
        self._firsts = [span[0] for span, _ in self.pieces]
        self._known: dict[tuple[frozenset[str], int], Signature] = {}
        self._texts: dict[tuple[str, Labels], frozenset[str]] = {}

    def selected(self, containers: Containers) -> list[int]:
        """Return the addresses of the containers that a selector of tasks selects."""
        found: list[int] = []
        known = self._texts
        for address, tasks in containers.items():
            for task in tasks:
                texts = known.get((task.discovery_name, task.labels))
                if self._of_task(task) if texts is None else texts:
                    found.append(address)
                    break
        return found

    def around(self, address: int) -> Signature:
        """Return the selectors of prefixes that select an address."""
        place = self._place(address)
        return self.pieces[place][1] if place >= 0 else ()

    def signature(self, address: int, tasks: Iterable[Task]) -> Signature | None:
        """Return the signature of a container's address; None if nobody selects it as one."""
        texts: frozenset[str] = frozenset()
        for task in tasks:
            found = self._of_task(task)
            texts = texts | found if texts else found
        if not texts:
            return None
        place = self._place(address)
        key = texts, place
        if key not in self._known:
            around = self.pieces[place][1] if place >= 0 else ()
            self._known[key] = tuple(sorted(texts.union(around)))
        return self._known[key]

    def _of_task(self, task: Task) -> frozenset[str]:
        """Return the selectors of tasks that select one; the instances of an app are alike."""
        key = task.discovery_name, task.labels
        found = self._texts.get(key)
        if found is None:
            found = frozenset(
                [
                    *(self._labels[label] for label in task.labels if label in self._labels),
                    *self._apps.get(task.discovery_name, ()),
                ]
            )
            self._texts[key] = found
        return found

    def _place(self, address: int) -> int:
        place = bisect_right(self._firsts, address) - 1
        return place if place >= 0 and address <= self.pieces[place][0][1] else -1


def follow_ends(
    before: Ends, finder: Finder, containers: Containers, places: Collection[int]
) -> tuple[Ends, Sequence[int]]:
    """Return the ends after a change, and the hosts whose signature it changed.

    Looked at are the *places* addresses, and every one where prefixes changed.
    """
    if finder.pieces != before.pieces:
        places = before.hosts.keys() | containers.keys()
    changed = {
        address: signature
        for address in places
        if (signature := finder.signature(address, containers.get(address, ())))
        != before.hosts.get(address)
    }
    hosts, counts = before.hosts, before.counts
    if changed:
        hosts, counts = dict(hosts), Counter(counts)
        counts.subtract(before.hosts[address] for address in changed if address in before.hosts)
        counts.update(signature for signature in changed.values() if signature is not None)
        for address, signature in changed.items():
            if signature is None:
                del hosts[address]
            else:
                hosts[address] = signature
    left = {signature: count for signature, count in counts.items() if count}
    return Ends(hosts, finder.pieces, finder.fine, left), list(changed)


def moved_tasks(old: View, new: View) -> list[Move]:
    """Return the tasks that came, went or changed, and those whose network moved under them."""
    keys = touched(old.tasks, new.tasks)
    moves: list[Move] = [(old.tasks.get(key), new.tasks.get(key)) for key in keys]
    networks = {
        name
        for name in old.networks.keys() | new.networks.keys()
        if _subnets(old, name) != _subnets(new, name)
    }
    if networks:
        moves += [
            (task, task)
            for key, task in new.tasks.items()
            if old.tasks.get(key) is task
            and not networks.isdisjoint((*task.networks, *task.networks6))
        ]
    return moves


def follow_containers(
    before: Containers, moves: Sequence[Move], old: View, new: View, version: int
) -> tuple[Containers, set[int]]:
    """Return the containers of *new* by address, and the addresses where *moves* changed tasks.

    *before* are those of *old*. Only addresses that lie in the network that
    their task names for them count.
    """
    if not moves:
        return before, set()
    left, right = _Places(old, version), _Places(new, version)
    found = dict(before)
    places: set[int] = set()
    for was, task in moves:
        if was is not None:
            for address in left.of(was):
                places.add(address)
                found[address] = tuple(each for each in found[address] if each is not was)
        if task is not None:
            for address in right.of(task):
                places.add(address)
                found[address] = (*found.get(address, ()), task)
    for address in places:
        if not found[address]:
            del found[address]
    return found, places


class _Places:
    """The prefixes of one IP version of a View's networks."""

    def __init__(self, view: View, version: int) -> None:
        self._version = version
        self._spans = {
            name: (int(subnet.network_address), int(subnet.broadcast_address))
            for name, network in view.networks.items()
            for subnet in network.subnets
            if subnet.version == version
        }

    def of(self, task: Task) -> list[int]:
        """Return the addresses of a task's container that lie in the network it names for them."""
        return [
            number
            for name, address in _attached(task, self._version)
            if (span := self._spans.get(name)) is not None
            and span[0] <= (number := int(address)) <= span[1]
        ]


def _attached(task: Task, version: int) -> Iterable[tuple[str, IPAddress]]:
    if version == 4:
        return zip(task.networks, task.addresses, strict=False)
    return zip(task.networks6, task.addresses6, strict=False)


def _subnets(view: View, name: str) -> object:
    network = view.networks.get(name)
    return None if network is None else network.subnets


def _pieces(spans: Collection[tuple[Span, str]]) -> Pieces:
    """Return the parts of a line that some spans cover, with the names of those of each."""
    starts: dict[int, set[str]] = defaultdict(set)
    ends: dict[int, set[str]] = defaultdict(set)
    for (first, last), text in spans:
        starts[first].add(text)
        ends[last + 1].add(text)
    found: list[tuple[Span, Signature]] = []
    active: set[str] = set()
    for first, after in pairwise(sorted(starts.keys() | ends.keys())):
        active -= ends.get(first, set())
        active |= starts.get(first, set())
        if active:
            found.append(((first, after - 1), tuple(sorted(active))))
    return found
