"""What waits when it is too much: turns, bounds, and who loses."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from phalanx.dns.backlog import Backlog


def put(backlog: Backlog, client: bytes, *numbers: int, now: float = 0.0) -> None:
    for number in numbers:
        backlog.put(client, (b"%d" % number, client), now)


def test_clients_take_turns_and_each_keeps_its_order() -> None:
    backlog = Backlog()
    put(backlog, b"a", 1, 2, 3)
    put(backlog, b"b", 4)

    taken = [(client, message) for message, client in backlog.take(9, 0.0)]

    assert taken == [(b"a", b"1"), (b"b", b"4"), (b"a", b"2"), (b"a", b"3")]
    assert len(backlog) == 0


def test_turn_goes_on_where_it_ended() -> None:
    backlog = Backlog()
    put(backlog, b"a", 1, 2)
    put(backlog, b"b", 3)

    assert [backlog.take(1, 0.0) for _ in range(4)] == [
        [(b"1", b"a")], [(b"3", b"b")], [(b"2", b"a")], []
    ]  # fmt: skip


def test_the_greedy_lose_their_oldest() -> None:
    backlog = Backlog(max_waiting=4)
    put(backlog, b"a", 1, 2, 3, 4, 5)
    put(backlog, b"b", 6)

    taken = backlog.take(9, 0.0)

    assert taken == [(b"3", b"a"), (b"6", b"b"), (b"4", b"a"), (b"5", b"a")]
    assert backlog.dropped == 2


def test_what_waited_too_long_is_not_answered() -> None:
    backlog = Backlog(max_wait_seconds=1.0)
    put(backlog, b"a", 1, 2, now=0.0)
    put(backlog, b"a", 3, now=1.5)
    put(backlog, b"b", 4, now=0.0)

    assert backlog.take(9, 2.0) == [(b"3", b"a")]
    assert (backlog.dropped, len(backlog)) == (3, 0)


@given(st.lists(st.sampled_from([b"a", b"a", b"a", b"b", b"c"]), max_size=80), st.integers(3, 8))
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
