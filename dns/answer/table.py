"""The answer table: from a message to the reply, for all zones of ours."""

import math
from collections.abc import Callable, Collection, Mapping

from phalanx.dns.admission import Verdict
from phalanx.dns.answer.answer import OPT, OPT_DNSSEC_OK, Answer, compile_answer
from phalanx.dns.answer.cookie import Shown
from phalanx.dns.answer.lookup import Found, Place, lookup, place_of
from phalanx.dns.answer.query import CLASSIC_BYTES, Query, Rcode, parse_plain, parse_query
from phalanx.dns.answer.ready import Counts, Ready
from phalanx.dns.answer.reply import (
    MAX_TCP_BYTES,
    RECURSION_AVAILABLE,
    TRUNCATED,
    Body,
    render_bad_version,
    render_error,
    render_reply,
    udp_limit,
    udp_room,
)
from phalanx.dns.answer.transfer import Transfer
from phalanx.dns.answer.wire import HEADER_BYTES, IN, encode_name
from phalanx.dns.zones.desired import Zones
from phalanx.dns.zones.record import RecordType
from phalanx.dns.zones.settings import DEFAULTS, ZoneSettings

# A forwarder's ready reply to a datagram; it gets that, and all of it but the id.
Foreign = Callable[[bytes, bytes], bytes | None]

NO_ZONE = ""  # the zone of what can't be read
MAX_READY = 32768  # answers; when it is full it starts anew
MAX_WITH_SOA = 2048  # of them denials, which every publishing ends
MAX_USUAL = 8192  # queries met before, as bytes
MAX_USUAL_BYTES = 16 << 20  # of replies to them

_PLAIN = b"\0\1\0\0\0\0\0\0"  # one question and nothing else
_WITH_OPT = b"\0\1\0\0\0\0\0\1"
_OPT_START = b"\0\0\x29"
_OPT_BYTES = 11
_TRANSFERS = (RecordType.AXFR, RecordType.IXFR)


class AnswerTable:
    """Answers questions about zones; built as questions come, forgotten as names change.

    A reply is the client's id, a ready head, the client's own question and a
    ready tail, so its case is kept. The order of an RRset follows from the id.
    Two clients that ask the same get the same bytes: there is no state in here
    but a cache and the counts.
    """

    def __init__(
        self,
        zones: Zones,
        aliases: Mapping[str, str],
        counts: Counts,
        *,
        settings: ZoneSettings = DEFAULTS,
        forwards: bool,
    ) -> None:
        self._zones = zones
        self._aliases = aliases
        self._apexes = frozenset(encode_name(apex) for apex in (*zones, *aliases))
        self._endings = tuple(self._apexes)
        self._counts = counts
        self._settings = settings
        self._forwards = RECURSION_AVAILABLE if forwards else 0
        self.foreign: Callable[[bytes, bytes], bytes | None] = (
            _nothing  # ready replies of a forwarder
        )
        self._ready: dict[bytes, Answer] = {}
        self.usual: dict[bytes, Ready] = {}  # replies to queries met before, by all but the id
        self._usual_bytes = 0
        self._keys: dict[str, list[bytes]] = {}  # of ready answers, by the names they depend on
        self._with_soa: list[bytes] = []  # keys of those that the next serial changes

    def forget(self, names: Collection[str] | None) -> None:
        """Make the answers anew that depend on *names*, or all if None, and those with a serial."""
        self._forget_usual()
        if names is None:
            self._clear()
            return
        ready = self._ready
        for key in self._with_soa:
            ready.pop(key, None)
        self._with_soa.clear()
        keys_of = self._keys
        for name in names if len(names) < len(keys_of) else [n for n in keys_of if n in names]:
            for key in keys_of.pop(name, ()):
                ready.pop(key, None)

    def _forget_usual(self) -> None:
        self.usual = {}
        self._usual_bytes = 0

    def _clear(self) -> None:
        self._forget_usual()
        self._ready = {}
        self._keys = {}
        self._with_soa = []

    def reply(self, message: bytes) -> bytes | Query | None:
        """Return the reply to a datagram, None for silence.

        Return the query if it is for others, or shows a cookie: reply_shown
        answers it when its reply's cookie is known.
        """
        rest = message[2:]
        usual = self.usual.get(rest)
        if usual is not None:
            _, cell, turns, replies = usual
            cell[0] += 1
            return message[:2] + replies[message[1] % turns]
        return self.foreign(message, rest) or self.reply_first(message)

    def reply_first(self, message: bytes) -> bytes | Query | None:
        """Return what reply does, for a query that was not met before in just these bytes."""
        name_end = message.find(b"\0", HEADER_BYTES) + 1
        end = name_end + 4
        wire = message[HEADER_BYTES:name_end].lower()
        if not wire.endswith(self._endings):  # nobody's of ours, if it is a name at all
            query = parse_plain(message, wire)
            return query if query is not None and query[4] == IN else self._reply_slowly(message)
        answer = self._ready.get(wire + message[name_end:end])
        if answer is None or message[2] & 0xF8:
            return self._reply_slowly(message)
        counts = message[4:HEADER_BYTES]
        if counts == _PLAIN and len(message) == end:
            if answer.size <= CLASSIC_BYTES:
                return self._reply_usually(message, answer, answer.heads, end, b"")
        elif (
            counts == _WITH_OPT
            and len(message) == end + _OPT_BYTES
            and message.startswith(_OPT_START, end)
            and not message[end + 6]  # version
            and not message[end + 9]  # length of options
            and not message[end + 10]
        ):
            room = udp_room(message[end + 3] << 8 | message[end + 4])
            if answer.size + _OPT_BYTES <= room:
                opt = OPT_DNSSEC_OK if message[end + 7] & 0x80 else OPT
                return self._reply_usually(message, answer, answer.edns_heads, end, opt)
        return self._reply_slowly(message)

    def _reply_usually(
        self, message: bytes, answer: Answer, heads: tuple[bytes, bytes], end: int, opt: bytes
    ) -> bytes:
        """Reply from a ready answer, and remember how."""
        start = heads[message[2] & 1] + message[HEADER_BYTES:end]
        replies = tuple([start + tail + opt for tail in answer.tails])
        size = len(replies) * len(replies[0])
        if len(self.usual) >= MAX_USUAL or self._usual_bytes + size > MAX_USUAL_BYTES:
            self._forget_usual()
        cell = self._counts.cell(answer.label)
        self.usual[message[2:]] = (math.inf, cell, answer.turns, replies)
        self._usual_bytes += size
        cell[0] += 1
        return message[:2] + replies[message[1] % answer.turns]

    def _reply_slowly(self, message: bytes) -> bytes | Query | None:
        reply = self._reply(message, None)
        return None if isinstance(reply, Transfer) else reply  # one is for TCP only

    def reply_tcp(
        self, message: bytes, *, may_transfer: bool = False
    ) -> bytes | Query | Transfer | None:
        """Return what reply does, with the room that a TCP connection has; or a whole zone.

        Return the query also when it asks how long the connection may be idle.
        """
        return self._reply(message, MAX_TCP_BYTES, may_transfer=may_transfer)

    def _reply(
        self, message: bytes, limit: int | None, *, may_transfer: bool = False
    ) -> bytes | Query | Transfer | None:
        query = parse_query(message)
        if query is None:
            return None
        if isinstance(query, Rcode):
            self._counts.add((NO_ZONE, query))
            return render_error(message, query, flags=self._forwards)
        edns = query.edns
        if edns is not None and (edns.cookie or (edns.wants_keepalive and limit is not None)):
            return query
        return self.reply_query(query, limit, may_transfer=may_transfer)

    def reply_shown(
        self, shown: Shown, limit: int, *, may_transfer: bool = False
    ) -> bytes | Query | Transfer:
        """Return what reply_query does for a query with a cookie, or a cookie alone."""
        query = shown.query
        if query.wire:
            return self.reply_query(query, limit, may_transfer=may_transfer)
        if query.edns is not None and query.edns.version:
            return self._refuse_version(query)
        return self._refuse(query, NO_ZONE, Rcode.BADCOOKIE if shown.is_bad else Rcode.NOERROR)

    def reply_query(
        self, query: Query, limit: int | None, *, may_transfer: bool = False
    ) -> bytes | Query | Transfer:
        """Return what reply does for a query that is parsed, without a limit over UDP."""
        if limit is None:
            limit = udp_limit(query.edns)
        if query.edns is not None and query.edns.version:
            return self._refuse_version(query)
        if query.class_ != IN:
            return self._refuse(query, NO_ZONE, Rcode.REFUSED)
        if self._is_foreign(query.wire):
            return query
        name = query.name
        place = place_of(name, self._zones, self._aliases)
        if place is None:
            return query
        if query.type in _TRANSFERS:
            if limit != MAX_TCP_BYTES or not may_transfer:
                return self._refuse(query, place.apex, Rcode.REFUSED)
            return self._transfer(query, place)
        answer = self._answer(query, name, place)
        if answer is None:
            return self._refuse(query, place.apex, Rcode.SERVFAIL)
        self._counts.add(answer.label)
        body = answer.bodies[query.message[1] % answer.turns]
        return render_reply(query, answer.rcode, body, flags=answer.flags, limit=limit)

    def _is_foreign(self, wire: bytes) -> bool:
        """Tell whether a name, as bytes in lower case, lies in no zone of ours."""
        if not wire.endswith(self._endings):
            return True  # nearly always; what ends like one may have the bytes within a label
        apexes, at = self._apexes, 0
        while wire[at]:
            if wire[at:] in apexes:
                return False
            at += 1 + wire[at]
        return True

    def _transfer(self, query: Query, place: Place) -> bytes | Transfer:
        """Return the whole zone (RFC 5936); IXFR gets it, too (RFC 1995 §4)."""
        zone = self._zones[place.apex]
        if zone is None:
            return self._refuse(query, place.apex, Rcode.SERVFAIL)
        if place.canonical(query.name) != place.apex or place.asked_apex != place.apex:
            return self._refuse(query, place.apex, Rcode.NOTAUTH)
        self._counts.add((place.apex, Rcode.NOERROR))
        return Transfer(query, zone, self._settings.ttl_seconds)

    def turn_away(self, message: bytes, verdict: Verdict) -> bytes | None:
        """Return what a client gets that may not ask, or asks too often; None for silence."""
        query = None if verdict is Verdict.DROP else parse_query(message)
        if query is None:
            return None
        rcode = Rcode.REFUSED if verdict is Verdict.REFUSE else Rcode.NOERROR
        self._counts.add((NO_ZONE, rcode))
        if isinstance(query, Rcode):
            return render_error(message, query)
        return render_reply(query, rcode, Body(), flags=TRUNCATED if verdict is Verdict.CUT else 0)

    def ask_for_cookie(self, query: Query) -> bytes:
        """Return BADCOOKIE, with the cookie that *query*'s reply carries (RFC 7873 §5.2.3)."""
        self._counts.add((NO_ZONE, Rcode.BADCOOKIE))
        return render_reply(query, Rcode.BADCOOKIE, Body(), flags=self._forwards)

    def _refuse_version(self, query: Query) -> bytes:
        self._counts.add((NO_ZONE, Rcode.BADVERS))
        return render_bad_version(query)

    def _refuse(self, query: Query, zone: str, rcode: Rcode) -> bytes:
        self._counts.add((zone, rcode))
        return render_reply(query, rcode, Body(), flags=self._forwards)

    def _answer(self, query: Query, name: str, place: Place) -> Answer | None:
        """Return the ready answer, made now if need be; None while the zone is not known."""
        question = query.question
        wire, rest = query.wire, question[-4:]
        ready = self._ready.get(wire + rest)
        if ready is not None:
            return ready
        found = lookup(name, query.type, wire, place, self._zones, self._settings)
        if found is None:
            return None
        answer = compile_answer(
            place.apex,
            found.rcode,
            found.body,
            question_bytes=len(question),
            forwards=self._forwards,
        )
        self._keep(wire + rest, answer, found)
        return answer

    def _keep(self, key: bytes, answer: Answer, found: Found) -> None:
        if len(self._ready) >= MAX_READY:
            self._clear()
        if found.has_soa:
            if len(self._with_soa) >= MAX_WITH_SOA:
                for old in self._with_soa:
                    self._ready.pop(old, None)
                self._with_soa.clear()
            self._with_soa.append(key)
        else:
            for name in found.names:
                self._keys.setdefault(name, []).append(key)
        self._ready[key] = answer


def _nothing(_: bytes, __: bytes) -> bytes | None:
    return None
