"""Cookies: the form that servers share, and what they earn."""

import asyncio
import socket
import struct
from ipaddress import ip_address

import pytest
from dnslib import EDNS0, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dns.client import SECONDS

from phalanx.core.error import ConfigError
from phalanx.dns.admission import Admission
from phalanx.dns.answer.cookie import Cookies, parse_secrets
from phalanx.dns.answer.query import Query, Rcode, parse_query
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.querylog import QueryLog
from phalanx.dns.server import DnsServer

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
OWN = bytes.fromhex("2464c4abcf10c957")
CLIENT = ip_address("198.51.100.100").packed
THEN = 0x5CF79F11


def asking(cookie: bytes, name: str = "web.marathon.mesos") -> bytes:
    record = DNSRecord.question(name)
    record.add_ar(EDNS0(udp_len=1232, opts=[EDNSOption(10, cookie)]))
    return bytes(record.pack())


def parsed(cookie: bytes) -> Query:
    query = parse_query(asking(cookie))
    assert isinstance(query, Query)
    return query


def given_to(cookies: Cookies, cookie: bytes, now: float, client: bytes = CLIENT) -> bytes:
    edns = cookies.shown(parsed(cookie), client, now).query.edns
    assert edns is not None
    assert struct.unpack_from("!HH", edns.echo) == (10, 24)
    return edns.echo[4:]


def test_cookie_is_the_one_that_other_servers_make() -> None:
    # RFC 9018, appendix A.1
    made = given_to(Cookies(SECRET), OWN, THEN)

    assert made.hex() == OWN.hex() + "010000005cf79f111f8130c3eee29480"


@pytest.mark.parametrize(
    ("later", "is_ours", "is_kept"),
    [(0, True, True), (1800, True, True), (1801, True, False), (3600, True, False),
     (3601, False, False), (-300, True, True), (-301, False, False)],
)  # fmt: skip
def test_cookie_lives_for_an_hour_and_is_renewed(later: int, is_ours: bool, is_kept: bool) -> None:
    cookies = Cookies(SECRET)
    made = given_to(cookies, OWN, THEN)

    assert cookies.shown(parsed(made), CLIENT, THEN + later).is_ours is is_ours
    assert (given_to(cookies, made, THEN + later) == made) is is_kept


def test_cookie_of_the_secret_before_is_good_and_replaced() -> None:
    made = given_to(Cookies(SECRET), OWN, THEN)
    after = Cookies(b"x" * 16, [SECRET])

    assert after.shown(parsed(made), CLIENT, THEN).is_ours
    assert given_to(after, made, THEN) != made
    assert not Cookies(b"x" * 16).shown(parsed(made), CLIENT, THEN).is_ours


@given(st.binary(min_size=16, max_size=40), st.ip_addresses(), st.integers(0, 2**33))
def test_made_up_cookie_is_not_ours(cookie: bytes, client: object, now: int) -> None:
    packed = ip_address(str(client)).packed

    assert not Cookies(SECRET).shown(parsed(cookie), packed, now).is_ours


def test_cookie_is_not_anothers() -> None:
    cookies = Cookies(SECRET)
    made = given_to(cookies, OWN, THEN)

    assert not cookies.shown(parsed(made), b"\1\2\3\4", THEN).is_ours
    assert not cookies.shown(parsed(b"other..." + made[8:]), CLIENT, THEN).is_ours


@pytest.mark.parametrize("size", [1, 7, 9, 15, 41])
def test_cookie_of_a_wrong_length_is_malformed(size: int) -> None:
    assert parse_query(asking(b"c" * size)) is Rcode.FORMERR


def test_secrets_are_read_newest_first() -> None:
    cookies = parse_secrets("dns-cookie-secrets", f"{SECRET.hex()}\n{'78' * 16}\n")

    assert given_to(cookies, OWN, THEN) == given_to(Cookies(SECRET), OWN, THEN)


@pytest.mark.parametrize("text", ["", "e5", "e5" * 15, "zz" * 16])
def test_secret_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--dns-cookie-secrets: "):
        parse_secrets("dns-cookie-secrets", text)


def cookie_of(reply: bytes) -> bytes:
    [opt] = DNSRecord.parse(reply).ar[-1].rdata
    assert opt.code == 10
    return bytes(opt.data)


def rcode_of(reply: bytes) -> int:
    return int(DNSRecord.parse(reply).ar[-1].ttl) >> 24 << 4 | reply[3] & 0xF


class Asker:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def __call__(self, query: bytes) -> bytes:
        self._sock.send(query)
        async with asyncio.timeout(SECONDS):
            return await asyncio.get_running_loop().sock_recv(self._sock, 65535)


async def test_client_that_shows_a_cookie_is_not_limited(zones: ZoneTable) -> None:
    server = DnsServer(
        zones,
        Forwarder(),
        addresses=["127.0.0.1"],
        port=0,
        admission=Admission(per_second=1),
        cookies=Cookies(SECRET),
        clock=lambda: 7.5,
        wall_clock=lambda: float(THEN),
    )
    async with server:
        [place] = server.listening
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((place.host, place.port))
            ask = Asker(sock)
            first, second = await ask(asking(OWN)), await ask(asking(OWN))
            ready = [await ask(asking(cookie_of(second))) for _ in range(5)]
            foreign = await ask(asking(cookie_of(second), "www.example.com"))

    assert (rcode_of(first), rcode_of(second)) == (Rcode.NOERROR, Rcode.BADCOOKIE)
    assert cookie_of(first) == cookie_of(second)
    assert [rcode_of(reply) for reply in ready] == [Rcode.NOERROR] * 5
    assert {cookie_of(reply) for reply in (*ready, foreign)} == {cookie_of(second)}
    assert rcode_of(foreign) == Rcode.REFUSED


def cookie_only(cookie: bytes, *, version: int = 0) -> bytes:
    """Return a query without a question that shows *cookie*."""
    opt = struct.pack("!BHHBBHHHH", 0, 41, 1232, 0, version, 0, len(cookie) + 4, 10, len(cookie))
    return struct.pack("!HHHHHH", 7, 0, 0, 0, 0, 1) + opt + cookie


@pytest.mark.parametrize("is_stream", [False, True])
async def test_cookie_is_had_without_a_question(zones: ZoneTable, *, is_stream: bool) -> None:
    """RFC 7873 §5.4."""
    server = DnsServer(
        zones,
        Forwarder(),
        addresses=["127.0.0.1"],
        port=0,
        cookies=Cookies(SECRET),
        query_log=QueryLog(1),
        wall_clock=lambda: float(THEN),
    )
    async with server:
        [place] = server.listening

        async def ask(query: bytes) -> bytes:
            if not is_stream:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
                    s.connect((place.host, place.port))
                    return await Asker(s)(query)
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_connection(place.host, place.port)
                writer.write(struct.pack("!H", len(query)) + query)
                reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                writer.close()
            return reply

        first = await ask(cookie_only(OWN))
        good = await ask(cookie_only(cookie_of(first)))
        bad = await ask(cookie_only(OWN + bytes(16)))
        other = await ask(cookie_only(OWN, version=1))

    assert [rcode_of(each) for each in (first, good, bad, other)] == [
        Rcode.NOERROR,
        Rcode.NOERROR,
        Rcode.BADCOOKIE,
        Rcode.BADVERS,
    ]
    assert {each[4:12] for each in (first, good, bad)} == {b"\0\0\0\0\0\0\0\1"}
    assert cookie_of(first) == cookie_of(good) == cookie_of(bad)
    assert len(cookie_of(first)) == 24
