"""Upstreams that lead back to us: each gets a question that nobody else asks."""

import struct
from collections.abc import Iterable, Iterator

from phalanx.dns.answer.wire import IN
from phalanx.dns.forward.flight import Upstream
from phalanx.dns.forward.message import Key, make_key
from phalanx.dns.forward.ports import Draws
from phalanx.dns.zones.record import RecordType

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
    """Makes the questions and recognises them when they come to us."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._asked: dict[bytes, Upstream] = {}
        self._found: set[Upstream] = set()

    def questions(self, upstreams: Iterable[Upstream]) -> Iterator[tuple[Upstream, Key]]:
        """Yield whom to ask what; who stayed away since the last time leads back no longer."""
        for upstream in {*self._asked.values()}:
            upstream.leads_back = upstream in self._found
        self._found.clear()
        self._asked.clear()
        for upstream in upstreams:
            labels = (b"%016x" % (self._draws.next() << 32 | self._draws.next()) for _ in "ab")
            name = b"".join(b"\x10" + label for label in labels) + b"\0"
            question = name + _TYPE
            self._asked[question] = upstream
            yield upstream, make_key(question)

    def recognised(self, question: bytes) -> Upstream | None:
        """Return the upstream that alone was asked this, if one was; it leads back to us."""
        upstream = self._asked.get(question)
        if upstream is not None:
            upstream.leads_back = True
            self._found.add(upstream)
        return upstream
