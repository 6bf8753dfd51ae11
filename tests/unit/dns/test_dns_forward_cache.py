"""The laws of the cache, whatever happens in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from phalanx.dns.forward.cache import (
    PREFETCH_HITS,
    PREFETCH_PART,
    STALE_RETRY_SECONDS,
    STALE_SECONDS,
    Cache,
)
from phalanx.dns.forward.message import Key, UpstreamReply, make_key


def kept(lifetime_seconds: int) -> UpstreamReply:
    return UpstreamReply(0, 0, (1, 0, 0), b"", lifetime_seconds, is_truncated=False)


def key(number: int) -> Key:
    return make_key(bytes([number]))


actions = st.lists(
    st.tuples(
        st.sampled_from(["put", "find", "fail"]),
        st.integers(0, 3),
        st.integers(0, 100),
        st.floats(0, 50_000),
    )
)


@given(actions, st.integers(1, 3))
def test_an_answer_is_the_newest_fresh_in_its_time_and_stale_for_a_day(
    done: list[tuple[str, int, int, float]], room: int
) -> None:
    cache = Cache(room)
    newest: dict[int, tuple[UpstreamReply, float]] = {}
    now = 0.0
    for action, number, lifetime, wait in done:
        now += wait
        if action == "put":
            reply = kept(lifetime)
            cache.put(key(number), reply, now)
            newest[number] = (reply, now)
        elif action == "fail":
            cache.fail(key(number), now)
        elif (found := cache.find(key(number), now)) is not None:
            reply, since = newest[number]
            assert found.reply is reply
            assert found.age_seconds == int(now - since)
            assert found.is_stale == (found.age_seconds >= reply.lifetime_seconds)
            assert found.age_seconds < reply.lifetime_seconds + STALE_SECONDS
            assert (cache.get(key(number), now) is None) == found.is_stale
        assert len(cache) <= room


def test_stale_answer_is_not_asked_for_again_at_once_after_a_failure() -> None:
    cache = Cache()
    cache.put(key(1), kept(10), 0.0)

    def is_retry_due(now: float) -> bool:
        found = cache.find(key(1), now)
        assert found is not None
        assert found.is_stale
        return found.is_retry_due

    assert is_retry_due(10.0)
    cache.fail(key(1), 10.0)
    assert not is_retry_due(10.0 + STALE_RETRY_SECONDS - 1)
    assert is_retry_due(10.0 + STALE_RETRY_SECONDS)
    cache.put(key(1), kept(10), 50.0)
    assert cache.get(key(1), 50.0) is not None


def test_hot_answer_is_due_for_a_fresh_one_before_its_end() -> None:
    cache = Cache()
    cache.put(key(1), kept(100), 0.0)

    def is_due(now: float) -> bool:
        found = cache.find(key(1), now)
        assert found is not None
        return found.is_prefetch_due

    late = 100 * PREFETCH_PART
    assert [is_due(late) for _ in range(PREFETCH_HITS)] == [False] * (PREFETCH_HITS - 1) + [True]
    assert not is_due(late - 1)
    cache.fail(key(1), late)
    assert not is_due(late + 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(0, 2))))
def test_answers_take_no_more_memory_than_agreed(puts: list[tuple[int, int, int]]) -> None:
    cache = Cache(max_bytes=100)
    for number, size, lifetime in puts:
        reply = UpstreamReply(0, 0, (1, 0, 0), bytes(size), lifetime, is_truncated=False)
        cache.put(key(number), reply, 0.0)

        found = [each for n in range(6) if (each := cache.find(key(n), 0.0)) is not None]
        assert sum(len(each.reply.records) + 1 for each in found) <= 100
        assert (cache.find(key(number), 0.0) is not None) == (lifetime > 0)


def test_answer_longer_than_all_room_is_not_kept() -> None:
    cache = Cache(max_bytes=100)
    cache.put(key(1), kept(10), 0.0)
    long = UpstreamReply(0, 0, (1, 0, 0), bytes(100), 10, is_truncated=False)

    cache.put(key(2), long, 0.0)

    assert [n for n in (1, 2) if cache.find(key(n), 0.0)] == [1]
