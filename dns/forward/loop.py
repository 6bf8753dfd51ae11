"""Upstreams that lead back to us: each gets a question that nobody else asks; told the time."""

import struct
from collections.abc import Collection, Iterable, Sequence

from phalanx.core.config import HostPort
from phalanx.dns.answer.wire import IN
from phalanx.dns.forward.message import Key, make_key
from phalanx.dns.forward.ports import Draws
from phalanx.dns.zones.record import RecordType

PROBE_SECONDS = 60.0  # between two questions to one upstream
DOUBT_SECONDS = 5.0  # while one leads back, or is new: a question may be lost on the way
SURE_ROUNDS = 3  # questions to a new one that are asked that soon
MISSES = 2  # questions in a row that must stay away before who led back is asked again
UNDER_WAY_SECONDS = 2.0  # after which a question has stayed away

_TYPE = struct.pack("!HH", RecordType.HINFO, IN)  # nothing of use to anybody else
PROBE_BYTES = 2 * 17 + 1 + len(_TYPE)


def is_probe(question: bytes) -> bool:
    """Tell whether somebody like us asks this to find a loop."""
    return (
        len(question) == PROBE_BYTES
        and question[::17][:2] == b"\x10\x10"
        and question.endswith(_TYPE)
    )


class LoopProbe:
    """Makes the questions, recognises them when they come to us, and knows who leads back."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._asked: dict[bytes, tuple[HostPort, float]] = {}  # and when
        self._came: set[bytes] = set()
        self._misses: dict[HostPort, int] = {}  # in a row, of who leads back
        self._rounds = 0  # since the upstreams changed

    @property
    def leading_back(self) -> Collection[HostPort]:
        """Return the upstreams that lead back to us."""
        return self._misses.keys()

    @property
    def wait_seconds(self) -> float:
        """Return for how long to wait with the next questions."""
        is_sure = self._rounds >= SURE_ROUNDS and not self._misses
        return PROBE_SECONDS if is_sure else DOUBT_SECONDS

    def change(self) -> None:
        """Take note that there are other upstreams than before."""
        self._rounds = 0

    def questions(
        self, upstreams: Iterable[HostPort], now: float
    ) -> Sequence[tuple[HostPort, Key]]:
        """Return whom to ask what; who stayed away often enough leads back no longer."""
        self._rounds += 1
        self._count_misses(now)
        found = []
        for upstream in upstreams:
            labels = (b"%016x" % (self._draws.next() << 32 | self._draws.next()) for _ in "ab")
            name = b"".join(b"\x10" + label for label in labels) + b"\0"
            question = name + _TYPE
            self._asked[question] = upstream, now
            found.append((upstream, make_key(question)))
        return found

    def recognised(self, question: bytes) -> HostPort | None:
        """Return the upstream that alone was asked this, if one was; it leads back to us."""
        asked = self._asked.get(question)
        if asked is None:
            return None
        upstream, _ = asked
        self._came.add(question)
        self._misses[upstream] = 0
        return upstream

    def _count_misses(self, now: float) -> None:
        over = [q for q, (_, since) in self._asked.items() if now - since >= UNDER_WAY_SECONDS]
        for question in over:
            upstream, _ = self._asked.pop(question)
            if question in self._came:
                self._came.discard(question)
            elif upstream in self._misses:
                self._misses[upstream] += 1
                if self._misses[upstream] >= MISSES:
                    del self._misses[upstream]
