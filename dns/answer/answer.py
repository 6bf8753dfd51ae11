"""The answer to one question of ours, ready for every client that asks it."""

import struct
from dataclasses import dataclass, field

from phalanx.dns.answer.reply import AUTHORITATIVE, RECURSION_DESIRED, Body, render_opt
from phalanx.dns.answer.wire import HEADER_BYTES

MAX_TURNS = 8  # orders of one RRset that are kept ready

_RESPONSE = 0x8000


@dataclass(frozen=True, slots=True)
class Answer:
    """A response code and records, in a few orders; and the same as bytes for plain clients.

    The bytes between the id and the question are ``heads[RD]``, with EDNS
    ``edns_heads[RD]``; those after the question are one of ``tails`` and then,
    with EDNS, the OPT record. *size* is the reply's length without OPT.
    """

    zone: str
    rcode: int
    flags: int
    bodies: tuple[Body, ...]
    size: int
    label: tuple[str, int] = field(init=False)
    heads: tuple[bytes, bytes] = field(init=False)
    edns_heads: tuple[bytes, bytes] = field(init=False)
    tails: tuple[bytes, ...] = field(init=False)
    turns: int = field(init=False)

    def __post_init__(self) -> None:
        body = self.bodies[0]
        counts = (1, len(body.answers), len(body.authorities))
        more = len(body.additional)
        head = _RESPONSE | self.flags | self.rcode
        put = object.__setattr__
        put(self, "label", (self.zone, self.rcode))
        put(self, "heads", _heads(head, *counts, more))
        put(self, "edns_heads", _heads(head, *counts, more + 1))
        put(self, "tails", tuple(map(_tail, self.bodies)))
        put(self, "turns", len(self.bodies))


OPT = render_opt()
OPT_DNSSEC_OK = render_opt(is_dnssec_ok=True)


def compile_answer(
    zone: str, rcode: int, body: Body, *, question_bytes: int, forwards: int
) -> Answer:
    """Return the answer with its records in every order that is kept ready.

    *forwards* is the RA flag, or 0 when names of others are not looked up here.
    """
    size = HEADER_BYTES + question_bytes + len(_tail(body))
    return Answer(zone, rcode, AUTHORITATIVE | forwards, _turned(body), size)


def _turned(body: Body) -> tuple[Body, ...]:
    answers = body.answers
    count = len(answers)
    starts = sorted({count * turn // MAX_TURNS for turn in range(MAX_TURNS)})
    return tuple(
        Body(answers[start:] + answers[:start], body.authorities, body.additional)
        for start in starts
    )


def _heads(head: int, *counts: int) -> tuple[bytes, bytes]:
    return (
        struct.pack("!HHHHH", head, *counts),
        struct.pack("!HHHHH", head | RECURSION_DESIRED, *counts),
    )


def _tail(body: Body) -> bytes:
    return b"".join((*body.answers, *body.authorities, *body.additional))
