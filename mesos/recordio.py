r"""RecordIO framing, sans I/O: ``<decimal length>\n<payload>``, repeated (reference mesos §0.5)."""

from phalanx.core.error import ProtocolError

MAX_LENGTH_DIGITS = 12


def encode_record(payload: bytes) -> bytes:
    """Frame one record."""
    return b"%d\n%b" % (len(payload), payload)


class RecordDecoder:
    """Turns chunks of bytes, cut anywhere, into records.

    *max_bytes* bounds one record; a longer one raises ProtocolError.
    """

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._length: int | None = None

    @property
    def is_amid(self) -> bool:
        """Tell whether a record has begun that is not whole yet."""
        return self._length is not None or bool(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the records that they complete.

        Raises ProtocolError when a length is not a decimal number in bounds;
        the decoder is of no use after that.
        """
        self._buffer += chunk
        records: list[bytes] = []
        while True:
            if self._length is None:
                self._length = self._take_length()
            if self._length is None or len(self._buffer) < self._length:
                return records
            records.append(bytes(self._buffer[: self._length]))
            del self._buffer[: self._length]
            self._length = None

    def _take_length(self) -> int | None:
        """Return the length at the head of the buffer once its line is complete."""
        end = self._buffer.find(b"\n", 0, MAX_LENGTH_DIGITS + 1)
        if end < 0:
            if len(self._buffer) > MAX_LENGTH_DIGITS:
                raise ProtocolError("record length has no end")
            return None
        line = bytes(self._buffer[:end])
        if not line.isdigit():
            raise ProtocolError(f"record length is not a number: {line!r}")
        length = int(line)
        if length > self._max_bytes:
            raise ProtocolError(f"record of {length} bytes, {self._max_bytes} at most")
        del self._buffer[: end + 1]
        return length
