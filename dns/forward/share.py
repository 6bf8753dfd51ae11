"""How much of the room for lookups one client may have; pure."""

MAX_FLIGHTS = 2048  # questions under way
MAX_WAITING = 4096  # clients' queries that wait for them


class Share:
    """Counts whose queries wait; when room gets short, nobody gets beyond a share."""

    def __init__(self, max_flights: int, max_waiting: int) -> None:
        self._max_flights = max_flights
        self._max_waiting = max_waiting
        self._half_flights, self._half_waiting = max_flights // 2, max_waiting // 2
        self._waiting: dict[bytes, int] = {}  # queries, by the address of who asks
        self._total = 0

    def enter(self, client: bytes) -> None:
        """Count one query of *client*."""
        self._waiting[client] = self._waiting.get(client, 0) + 1
        self._total += 1

    def leave(self, client: bytes) -> None:
        """Count one less."""
        left = self._waiting[client] - 1
        if left:
            self._waiting[client] = left
        else:
            del self._waiting[client]
        self._total -= 1

    def is_too_much(self, client: bytes, flights: int, *, is_new: bool) -> bool:
        """Tell whether to turn a query away; a new one would begin one more of *flights*."""
        waiting = self._total
        if waiting < self._half_waiting and flights < self._half_flights:
            return False
        if waiting >= self._max_waiting or (is_new and flights >= self._max_flights):
            return True
        own = self._waiting.get(client, 0)
        clients = len(self._waiting) + (not own)
        if clients == 1:
            return False
        if waiting >= self._max_waiting // 2 and own >= self._max_waiting // (2 * clients):
            return True
        is_busy = is_new and flights >= self._max_flights // 2
        return is_busy and own >= self._max_flights // (2 * clients)
