"""What waits when it is too much: turns, bounds, and who loses."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from phalanx.dns.backlog import Backlog

A, B, C = (bytes([2, 0, 0, 53, 192, 0, 2, number]) + bytes(8) for number in (1, 2, 3))


def put(backlog: Backlog, peer: bytes, *numbers: int, now: float = 0.0) -> None:
    backlog.put([(b"%d" % number, peer) for number in numbers], now)


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    backlog = Backlog()
    put(backlog, A, 1, 2, 3)
    put(backlog, B, 4)

    taken = [(client, message) for message, client in backlog.take(9, 0.0)]

    assert taken == [(A, b"1"), (B, b"4"), (A, b"2"), (A, b"3")]
    assert len(backlog) == 0


def test_turn_goes_on_where_it_ended() -> None:
    backlog = Backlog()
    put(backlog, A, 1, 2)
    put(backlog, B, 3)

    assert [backlog.take(1, 0.0) for _ in range(4)] == [
        [(b"1", A)], [(b"3", B)], [(b"2", A)], []
    ]  # fmt: skip


def test_the_greedy_lose_their_oldest() -> None:
    backlog = Backlog(max_waiting=4)
    put(backlog, A, 1, 2, 3, 4, 5)
    put(backlog, B, 6)

    taken = backlog.take(9, 0.0)

    assert taken == [(b"3", A), (b"6", B), (b"4", A), (b"5", A)]
    assert backlog.dropped == 2


def test_what_waited_too_long_is_not_answered() -> None:
    backlog = Backlog(max_wait_seconds=1.0)
    put(backlog, A, 1, 2, now=0.0)
    put(backlog, A, 3, now=1.5)
    put(backlog, B, 4, now=0.0)

    assert backlog.take(9, 2.0) == [(b"3", A)]
    assert (backlog.dropped, len(backlog)) == (3, 0)


@given(st.lists(st.sampled_from([A, A, A, B, C]), max_size=80), st.integers(3, 8))
def test_who_asks_within_a_share_loses_nothing(asked: list[bytes], room: int) -> None:
    backlog = Backlog(max_waiting=room)
    for number, client in enumerate(asked):
        put(backlog, client, number)
    kept = Counter(client for _, client in backlog.take(room, 0.0))

    assert kept.total() + backlog.dropped == len(asked)
    assert kept.total() == min(room, len(asked))
    share = room // max(1, len(set(asked)))
    for client, count in Counter(asked).items():
        assert kept[client] >= min(count, share)
