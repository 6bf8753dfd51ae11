"""A whole zone as messages (RFC 5936); pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from phalanx.dns.answer.query import Query
from phalanx.dns.answer.reply import AUTHORITATIVE, Body, render_reply
from phalanx.dns.answer.wire import encode_name, encode_record
from phalanx.dns.zones.record import RecordType, is_encodable
from phalanx.dns.zones.zone import Zone

MESSAGE_BYTES = 16384  # of records in one message


@dataclass(frozen=True, slots=True)
class Transfer:
    """The answer to AXFR, made as it is sent."""

    query: Query
    zone: Zone
    ttl_seconds: int

    def messages(self) -> Iterator[bytes]:
        """Yield the messages; ends early when the zone changed meanwhile, so the client asks again.

        Without its last message, a second SOA, a transfer counts for nothing.
        """
        zone = self.zone
        serial = zone.soa.serial
        soa = encode_record(encode_name(zone.apex), RecordType.SOA, zone.soa, self.ttl_seconds)
        pending, size = [soa], len(soa)
        for name in list(zone.names):
            if zone.soa.serial != serial:
                return
            if not is_encodable(name):
                continue
            owner = encode_name(name)
            for type_, rrset in zone.names.get(name, {}).items():
                if type_ is RecordType.SOA:
                    continue
                for data in rrset:
                    record = encode_record(owner, type_, data, self.ttl_seconds)
                    pending.append(record)
                    size += len(record)
            if size >= MESSAGE_BYTES:
                yield from self._rendered(pending)
                pending, size = [], 0
        if zone.soa.serial == serial:
            yield from self._rendered([*pending, soa])

    def _rendered(self, records: list[bytes]) -> Iterator[bytes]:
        """Yield messages of at most MESSAGE_BYTES of records, unless one alone is longer."""
        begin, size = 0, 0
        for number, record in enumerate(records):
            if size and size + len(record) > MESSAGE_BYTES:
                yield self._message(records[begin:number])
                begin, size = number, 0
            size += len(record)
        yield self._message(records[begin:])

    def _message(self, records: list[bytes]) -> bytes:
        return render_reply(self.query, 0, Body(tuple(records)), flags=AUTHORITATIVE)
