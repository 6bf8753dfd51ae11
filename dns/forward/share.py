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

    def enter(self, client: bytes, flights: int, *, is_new: bool) -> bool:
        """Count one query of *client* if there is room for it; tell whether there was.

        A new one would begin one more of *flights*.
        """
        is_short = self._total >= self._half_waiting or flights >= self._half_flights
        if is_short and self._is_too_much(client, flights, is_new=is_new):
            return False
        self._waiting[client] = self._waiting.get(client, 0) + 1
        self._total += 1
        return True

    def leave(self, client: bytes) -> None:
        """Count one less."""
        left = self._waiting[client] - 1
        if left:
            self._waiting[client] = left
        else:
            del self._waiting[client]
        self._total -= 1

    def _is_too_much(self, client: bytes, flights: int, *, is_new: bool) -> bool:
        waiting = self._total
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
