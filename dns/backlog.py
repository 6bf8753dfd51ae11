"""What waits to be answered when more arrives than can be: fair, bounded, told the time."""

from collections import deque

from phalanx.dns.batch import Datagram

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

    def put(self, client: bytes, datagram: Datagram, now: float) -> None:
        """Let *datagram* of *client* wait from *now* on, in seconds of any clock."""
        queues = self._queues
        if self._size >= self._max_waiting:
            self._make_room(client)
        queue = queues.get(client)
        if queue is None:
            queue = queues[client] = deque()
        queue.append((now, datagram))
        self._size += 1

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

    def _make_room(self, newcomer: bytes) -> None:
        queues = self._queues
        own = queues.get(newcomer)
        if own is not None and len(own) * len(queues) >= self._size:
            greedy = newcomer
        else:
            some = [client for client, _ in zip(queues, range(_LOOKED_AT), strict=False)]
            greedy = max(some, key=lambda client: len(queues[client]))
        queue = queues[greedy]
        queue.popleft()
        if not queue:
            del queues[greedy]
        self._size -= 1
        self.dropped += 1
