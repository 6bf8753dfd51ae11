"""RecordIO: whatever the chunks, the records come out as they went in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import ProtocolError
from phalanx.mesos.recordio import RecordDecoder, encode_record


def test_length_counts_bytes() -> None:
    assert encode_record(b'{"type":"HEARTBEAT"}') == b'20\n{"type":"HEARTBEAT"}'
    assert encode_record("é".encode()) == b"2\n\xc3\xa9"


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 30)))
def test_any_chunking_gives_the_same_records(records: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(encode_record, records))
    decoder = RecordDecoder()
    out: list[bytes] = []
    for size in sizes:
        out += decoder.feed(stream[:size])
        stream = stream[size:]
    out += decoder.feed(stream)

    assert out == records


@pytest.mark.parametrize(
    "stream",
    [b"x\n", b"-1\n", b"\n", b"99999999999999", b"9999999\n", b" 5\nhello"],
)
def test_a_broken_length_is_an_error(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        RecordDecoder(max_bytes=1000).feed(stream)
