"""The bounded sending end of a stream."""

import asyncio

from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.stream import Stream


async def read(stream: Stream) -> list[bytes]:
    decoder = RecordDecoder()
    return [record async for framed in stream.records() for record in decoder.feed(framed)]


async def test_everything_sent_before_the_close_is_read() -> None:
    stream = Stream("s")
    stream.send(b"one")
    stream.send(b"two")
    stream.close()

    assert await read(stream) == [b"one", b"two"]


async def test_a_waiting_reader_gets_what_is_sent_later() -> None:
    stream = Stream("s")
    reading = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0)

    stream.send(b"late")
    await asyncio.sleep(0)
    stream.close()

    assert await reading == [b"late"]


async def test_a_reader_that_leaves_too_much_is_dropped() -> None:
    dropped: list[bool] = []
    stream = Stream("s", max_bytes=100)
    stream.on_drop = lambda: dropped.append(True)

    for _ in range(3):
        stream.send(bytes(48))

    assert dropped == [True]
    assert stream.is_closed
    assert await read(stream) == []


async def test_one_record_may_be_larger_than_the_bound() -> None:
    stream = Stream("s", max_bytes=10)
    stream.send(bytes(1000))
    stream.close()

    assert await read(stream) == [bytes(1000)]


async def test_nothing_is_added_to_a_closed_stream() -> None:
    stream = Stream("s")
    stream.close()
    stream.send(b"late")

    assert await read(stream) == []
