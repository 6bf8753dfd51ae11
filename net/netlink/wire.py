"""Messages and attributes of netlink as bytes, and a socket that carries them.

`phalanx.net.rtnl` is for daemons. This is for CNI plugins, whose time goes by
in imports: `socket`, `struct` and `dataclasses` alone take longer to load than
an attachment takes to make.
"""

import posix
from _socket import SOCK_CLOEXEC, SOCK_RAW, socket
from _struct import pack, unpack_from

AF_NETLINK = 16
ROUTE, NETFILTER = 0, 12  # families of netlink
ERROR, DONE = 2, 3
REQUEST, ACK, EXCL, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
NESTED, TYPE_MASK = 0x8000, 0x3FFF
SOL_NETLINK, STRICT_CHECK = 270, 12
SOL_SOCKET, NETNS_COOKIE = 1, 71
CLONE_NEWNET = 0x40000000
READ_BYTES = 1 << 15  # what the kernel puts into one answer of a dump at most

Attributes = dict[int, bytes]


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind: int, *inner: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(inner))


def text(kind: int, value: str) -> bytes:
    """Return an attribute that holds a string with its zero."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """Return an attribute that holds a number of four bytes."""
    return attribute(kind, pack("=I", value))


def attributes(data: bytes, offset: int = 0) -> Attributes:
    """Return the attributes in *data* from *offset* on, values by type."""
    found: Attributes = {}
    while offset + 4 <= len(data):
        length, kind = unpack_from("=HH", data, offset)
        if not 4 <= length <= len(data) - offset:
            break
        found[kind & TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Message:
    """One request: type, flags beside REQUEST, payload."""

    __slots__ = ("flags", "kind", "payload")

    def __init__(self, kind: int, flags: int, payload: bytes) -> None:
        self.kind = kind
        self.flags = flags
        self.payload = payload


class Conversation:
    """A blocking netlink socket of the calling thread's network namespace.

    It waits without end: the kernel answers each request before it returns from the sending.
    """

    def __init__(self, family: int = ROUTE) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family)
        if family == ROUTE:
            self._socket.setsockopt(SOL_NETLINK, STRICT_CHECK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):  # a refusal may have come before it
            self._socket.close()

    def tell(self, *messages: Message) -> list[int]:
        """Send changes in one go; return the error number of each, 0 where there was none."""
        first = self._sequence + 1
        self._send([Message(each.kind, each.flags | ACK, each.payload) for each in messages])
        results: dict[int, int] = {}
        while len(results) < len(messages):
            for kind, sequence, payload in self._receive():
                if kind == ERROR and sequence >= first:  # else: of a request that nobody waits for
                    results[sequence] = -unpack_from("=i", payload)[0]
        return [results[first + index] for index in range(len(messages))]

    def change(self, message: Message, what: str) -> None:
        """Send one change; raise OSError, with *what* it was about, when it is refused."""
        [number] = self.tell(message)
        if number:
            raise refusal(number, what)

    def ask(self, message: Message) -> bytes:
        """Send one question and return its answer's payload; raise OSError if it is refused."""
        return self._answers(message)[0]

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """Return the payloads that a dump yields; raise OSError if it is refused."""
        return self._answers(Message(kind, DUMP, payload))

    def batch(self, messages: list[Message]) -> list[int]:
        """Send the messages of one netfilter transaction, between its bounds; as `tell`.

        An error that concerns the transaction as a whole is given to all.
        """
        bounds = pack("=BBH", 0, 0, 10 << 8)  # the subsystem nf_tables, in network order
        first = self._sequence + 2
        self._send(
            [
                Message(16, 0, bounds),
                *[Message(each.kind, each.flags | ACK, each.payload) for each in messages],
                Message(17, 0, bounds),
            ]
        )
        results: dict[int, int] = {}
        while len(results) < len(messages):
            for kind, sequence, payload in self._receive():
                if kind != ERROR:
                    continue
                number = -unpack_from("=i", payload)[0]
                if sequence < first - 1:  # of a request that nobody waits for
                    continue
                if not first <= sequence < first + len(messages):
                    if number:
                        return [number] * len(messages)
                    continue
                results[sequence] = number
        return [results[first + index] for index in range(len(messages))]

    def _answers(self, message: Message) -> list[bytes]:
        self._send([message])
        found: list[bytes] = []
        while True:
            for kind, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == ERROR:
                    number = -unpack_from("=i", payload)[0]
                    raise refusal(number, "netlink")
                if kind == DONE:
                    return found
                found.append(payload)
            if found and message.flags & DUMP != DUMP:
                return found

    def _send(self, messages: list[Message]) -> None:
        packets = []
        for message in messages:
            self._sequence += 1
            length = 16 + len(message.payload)
            head = pack("=IHHII", length, message.kind, message.flags | REQUEST, self._sequence, 0)
            packets.append(head + message.payload + bytes(-length % 4))
        self._socket.send(b"".join(packets))

    def _receive(self) -> list[tuple[int, int, bytes]]:
        data, offset = self._socket.recv(READ_BYTES), 0
        found = []
        while offset + 16 <= len(data):
            length, kind, _, sequence, _ = unpack_from("=IHHII", data, offset)
            found.append((kind, sequence, data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        return found


def refusal(number: int, what: str) -> OSError:
    """Return the error of a number of the kernel's."""
    return OSError(number, f"{what}: {posix.strerror(number)}")


def namespace_cookie() -> int:
    """Return the number of the thread's network namespace, given once between two boots."""
    probe = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, ROUTE)
    try:
        return int.from_bytes(probe.getsockopt(SOL_SOCKET, NETNS_COOKIE, 8), "little")
    finally:
        probe.close()


def enter(descriptor: int) -> None:
    """Move the calling thread into the network namespace of an open file; raise OSError."""
    import _ctypes

    function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "setns")  # type: ignore[arg-type]  # the process
    if _ctypes.call_function(function, (descriptor, CLONE_NEWNET)) != 0:
        raise OSError(22, "setns: not a network namespace that we may enter")
