"""Many datagrams by one system call, on loopback sockets."""

import math
import socket

import pytest

from phalanx.dns.batch import SLOT_BYTES, Batch, Datagram, packed_of

FAMILIES = pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)


def opened(family: int, host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((host, 0))
    return sock


@FAMILIES
def test_what_comes_goes_back_to_who_sent_it(family: int, host: str) -> None:
    inbox, outbox = Batch(family, 3), Batch(family, 3)
    with opened(family, host) as server, opened(family, host) as one, opened(family, host) as two:
        sent = [(one, b"a"), (two, b""), (one, b"x" * 4000), (two, b"bb")]
        for client, message in sent:
            client.sendto(message, server.getsockname())

        got: list[Datagram] = []
        for size in (3, 1, 0):
            assert inbox.receive(server.fileno()) == size
            got += inbox.datagrams(range(size))
        outbox.send(server.fileno(), [(message + b"!", peer) for message, peer in got])

        for client, message in sent:
            assert client.recv(65535) == message + b"!"
    assert [message for message, _ in got] == [message for _, message in sent]
    assert {packed_of(peer) for _, peer in got} == {socket.inet_pton(family, host)}


@FAMILIES
def test_too_long_a_datagram_is_cut(family: int, host: str) -> None:
    batch = Batch(family, 2)
    with opened(family, host) as server, opened(family, host) as client:
        client.sendto(b"y" * (SLOT_BYTES + 1), server.getsockname())
        client.sendto(b"z", server.getsockname())

        count = batch.receive(server.fileno())
        messages = [message for message, _ in batch.datagrams(range(count))]

    assert messages == [b"y" * SLOT_BYTES, b"z"]


def test_one_that_cannot_be_sent_does_not_hold_up_the_rest() -> None:
    batch = Batch(socket.AF_INET, 4)
    with opened(socket.AF_INET, "127.0.0.1") as server, opened(socket.AF_INET, "127.0.0.1") as peer:
        peer.sendto(b"q", server.getsockname())
        inbox = Batch(socket.AF_INET, 1)
        assert inbox.receive(server.fileno()) == 1
        [(_, good)] = inbox.datagrams([0])
        bad = good[:2] + b"\0\0" + good[4:]  # nobody has port 0

        batch.send(server.fileno(), [(b"1", good), (b"2", bad), (b"3", good)])

        assert [peer.recv(9), peer.recv(9)] == [b"1", b"3"]


@FAMILIES
def test_ready_replies_go_out_from_where_their_queries_stand(family: int, host: str) -> None:
    batch = Batch(family, 8)
    own, foreign = [0], [0]
    usual = {b"web": (math.inf, own, 2, (b"even", b"odd, and much longer than it was asked"))}
    recent = {b"out": (5.0, foreign, 1, (b"kept",)), b"old": (4.0, foreign, 1, (b"gone",))}
    with opened(family, host) as server, opened(family, host) as client:
        asked = [b"\0\0web", b"\0\1new", b"\0\2out", b"\0\3old", b"\0\4", b"\0\7web", b"x"]
        for _ in range(2):  # the second time finds the slots as they were
            for message in asked:
                client.sendto(message, server.getsockname())
            count = batch.receive(server.fileno())
            left = batch.reply(count, usual, recent, now=4.5)
            rest = [message for message, _ in batch.datagrams(left)]
            batch.send_back(server.fileno(), count, left)

            assert rest == [b"\0\1new", b"\0\3old", b"\0\4", b"x"]
            assert [client.recv(99) for _ in range(3)] == [
                b"\0\0even",
                b"\0\2kept",
                b"\0\7odd, and much longer than it was asked",
            ]

        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(99)
    assert (own, foreign) == ([4], [2])
