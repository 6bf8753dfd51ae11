"""What waits to be answered when more arrives than can be: fair, bounded, told the time."""

from collections import deque
from collections.abc import Iterable
from itertools import islice

from phalanx.dns.batch import Datagram, packed_of

MAX_WAITING = 4096
MAX_WAIT_SECONDS = 0.1  # a client that waits for longer has little use for the answer
_LOOKED_AT = 8  # clients among whom to find one that has more than its share


class Backlog:
    """Datagrams by client, taken in turns, so that who sends few waits for few.

    When it is full, the oldest of a client that has more than its share goes.
    Nothing is parsed for that. *dropped* counts what went unanswered.
    """

    def __init__(
        self, max_waiting: int = MAX_WAITING, *, max_wait_seconds: float = MAX_WAIT_SECONDS
    ) -> None:
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._queues: dict[bytes, deque[tuple[float, Datagram]]] = {}  # who is next comes first
        self._size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._size

    def put(self, datagrams: Iterable[Datagram], now: float) -> None:
        """Let *datagrams* wait from *now* on, in seconds of any clock; each is its sender's."""
        queues, room = self._queues, self._max_waiting
        for datagram in datagrams:
            client = packed_of(datagram[1])
            queue = queues.get(client)
            if queue is None:
                queue = queues[client] = deque()
            queue.append((now, datagram))
            if self._size < room:
                self._size += 1
            elif len(queue) * len(queues) > room:  # more than its share
                queue.popleft()
                self.dropped += 1
            else:
                self._size += 1
                self._make_room()

    def take(self, count: int, now: float) -> list[Datagram]:
        """Return at most *count* to answer, one of each client in turn; what is too old goes."""
        found: list[Datagram] = []
        queues, oldest = self._queues, now - self._max_wait_seconds
        while queues and len(found) < count:
            client = next(iter(queues))
            queue = queues.pop(client)
            since, datagram = queue.popleft()
            self._size -= 1
            while since < oldest and queue:
                self.dropped += 1
                since, datagram = queue.popleft()
                self._size -= 1
            if since < oldest:
                self.dropped += 1
            else:
                found.append(datagram)
            if queue:
                queues[client] = queue
        return found

    def _make_room(self) -> None:
        queues = self._queues
        some = islice(queues, _LOOKED_AT)
        greedy = max(some, key=lambda client: len(queues[client]))
        queue = queues[greedy]
        queue.popleft()
        if not queue:
            del queues[greedy]
        self._size -= 1
        self.dropped += 1
