"""The elements of an owner as the kernel tells of them, for when its own file is torn."""

from _struct import pack, unpack_from

from phalanx.net.hostport.layout import TABLE
from phalanx.net.netlink.nft import BRIDGE, GETSET, GETSETELEM, INET, Element
from phalanx.net.netlink.wire import Conversation, attributes, text

TYPE_CHECKING = False  # typing takes longer to load than an element to find
if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = ("near4", "near6", "fenced", "same")  # sets whose elements may be of several owners
KEY, DATA, USERDATA, KEY_END = 1, 2, 6, 10  # of an element
ELEMENTS, NAME = 3, 2  # of a listing of elements, of a set


def elements_of(talk: Conversation, owner: str) -> list[Element]:
    """Return what bears the owner's comment in the tables, whichever plugin made it."""
    return [
        _element(family, name, raw)
        for family, name, raw in _listed(talk)
        if _comment(raw.get(USERDATA, b"")) == owner[:120]
    ]


def owners_of(talk: Conversation) -> set[str]:
    """Return whose comments there are in the tables, each cut off after 120 bytes."""
    return {_comment(raw.get(USERDATA, b"")) for _, _, raw in _listed(talk)}


def _listed(talk: Conversation) -> "Iterator[tuple[int, str, dict[int, bytes]]]":
    """Yield family, set and attributes of each element; none where there are no tables."""
    for family in (INET, BRIDGE):
        head = pack("=BBH", family, 0, 0) + text(1, TABLE)
        try:
            sets = talk.dump(GETSET, head)
        except OSError:
            continue
        for described in sets:
            name = attributes(described, 4)[NAME].rstrip(b"\0").decode()
            for payload in talk.dump(GETSETELEM, head + text(2, name)):
                for raw in _each(attributes(payload, 4).get(ELEMENTS, b"")):
                    yield family, name, raw


def _element(family: int, name: str, raw: dict[int, bytes]) -> Element:
    key, end, data = (attributes(raw.get(kind, b"")).get(1, b"") for kind in (KEY, KEY_END, DATA))
    return Element(family, name, key, data=data, end=end, is_shared=name in SHARED)


def _each(listed: bytes) -> "Iterator[dict[int, bytes]]":
    offset = 0
    while offset + 4 <= len(listed):
        (length,) = unpack_from("=H", listed, offset)
        if length < 4:
            return
        yield attributes(listed[offset + 4 : offset + length])
        offset += (length + 3) & ~3


def _comment(userdata: bytes) -> str:
    """Return the comment in a row of type, length and value; it is of type 0."""
    while len(userdata) >= 2:
        kind, length = userdata[0], userdata[1]
        if kind == 0:
            return userdata[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        userdata = userdata[2 + length :]
    return ""
