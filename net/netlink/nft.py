"""Elements of nftables sets by netlink: one transaction costs some 50 µs, through ``nft`` 3 ms."""

from _struct import pack

from phalanx.net.netlink.wire import (
    CREATE,
    Conversation,
    Message,
    attribute,
    nest,
    text,
)

GETSET = (10 << 8) + 10
NEWSETELEM, GETSETELEM, DELSETELEM = (10 << 8) + 12, (10 << 8) + 13, (10 << 8) + 14
INET, BRIDGE = 1, 7
EXCL = 0x200
NAMES = {INET: "inet", BRIDGE: "bridge"}


class Element:
    """One element: where it is, its key, the end of its key's interval, its data, whether shared.

    A shared one may be of several owners and goes with the last.
    """

    __slots__ = ("data", "end", "family", "is_shared", "key", "set_name", "what")

    def __init__(
        self,
        family: int,
        set_name: str,
        key: bytes,
        *,
        data: bytes = b"",
        end: bytes = b"",
        is_shared: bool = False,
        what: str = "",
    ) -> None:
        self.family = family
        self.set_name = set_name
        self.key = key
        self.data = data
        self.end = end
        self.is_shared = is_shared
        self.what = what  # for people

    def as_json(self) -> list[object]:
        """Return the element as it is kept in a file."""
        return [
            self.family, self.set_name, self.key.hex(), self.data.hex(), self.end.hex(),
            self.is_shared, self.what,
        ]  # fmt: skip

    @staticmethod
    def of(kept: object) -> "Element":
        """Return the element of `as_json`; raise ValueError if it is none."""
        if not isinstance(kept, list) or len(kept) != 7:
            raise ValueError(f"{kept!r} is not an element")
        family, set_name, key, data, end, is_shared, what = kept
        return Element(
            int(family),
            str(set_name),
            bytes.fromhex(key),
            data=bytes.fromhex(data),
            end=bytes.fromhex(end),
            is_shared=bool(is_shared),
            what=str(what),
        )


def field(value: bytes) -> bytes:
    """Return a field of a concatenation, padded as the kernel has it."""
    return value + bytes(-len(value) % 4)


def name(value: str) -> bytes:
    """Return the name of a link as a key."""
    return value.encode().ljust(16, b"\0")


def add(table: str, element: Element, comment: str) -> Message:
    """Return the message that adds an element; one that is there must be the same."""
    words = comment.encode()[:120] + b"\0"
    return _message(
        NEWSETELEM,
        CREATE if element.is_shared else CREATE | EXCL,
        table,
        element,
        nest(2, attribute(1, element.data)) if element.data else b"",
        attribute(6, pack("=BB", 0, len(words)) + words),
    )


def delete(table: str, element: Element) -> Message:
    """Return the message that removes an element."""
    return _message(DELSETELEM, 0, table, element)


def is_there(talk: Conversation, table: str, element: Element) -> bool:
    """Tell whether a set holds an element's key; False, too, when there is no such set."""
    try:
        talk.ask(_message(GETSETELEM, 0, table, element))
    except OSError as error:
        if error.errno == 2:
            return False
        raise
    return True


def has_set(talk: Conversation, family: int, table: str, name: str) -> bool:
    """Tell whether a table has a set, or map, of this name."""
    head = pack("=BBH", family, 0, 0)
    try:
        talk.ask(Message(GETSET, 0, head + text(1, table) + text(2, name)))
    except OSError as error:
        if error.errno == 2:
            return False
        raise
    return True


def _message(kind: int, flags: int, table: str, element: Element, *more: bytes) -> Message:
    key = nest(1, attribute(1, element.key))
    end = nest(10, attribute(1, element.end)) if element.end else b""
    return Message(
        kind,
        flags,
        pack("=BBH", element.family, 0, 0)
        + text(1, table)
        + text(2, element.set_name)
        + nest(3, nest(1, key, end, *more)),
    )
