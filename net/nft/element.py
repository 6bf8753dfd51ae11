"""Elements of nftables sets in one canonical spelling, which is nft's own; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """One element: the name of its set and the fields of its key, as nft writes them."""

    set_name: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.set_name} {{ {self.text} }}"

    @property
    def text(self) -> str:
        """Return the key as nft reads it."""
        return " . ".join(self.fields)


# Stands for a table's chains, rules and sets themselves, without any element.
RULES = Element("", ())


def render_prefix(prefix: IPv4Network) -> str:
    """Return a prefix, or an address if it is one."""
    return str(prefix.network_address if prefix.prefixlen == 32 else prefix)


def outermost(prefixes: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Return the prefixes that lie in no other, in order.

    Neighbours are not joined: an element that is replaced by a wider one is
    missing for a moment, so what comes or goes must leave the others alone.
    """
    kept: list[IPv4Network] = []
    end = -1
    for first, length, prefix in sorted(
        (int(prefix.network_address), prefix.prefixlen, prefix) for prefix in set(prefixes)
    ):
        if first > end:
            kept.append(prefix)
            end = first | 0xFFFFFFFF >> length
    return kept


def render_addresses(first: int, last: int) -> str:
    """Return the addresses from *first* to *last*: an address, a prefix or a range."""
    low, high = IPv4Address(first), IPv4Address(last)
    prefixes = summarize_address_range(low, high)
    prefix = next(prefixes)
    if next(prefixes, None) is None:
        return render_prefix(prefix)
    return f"{low}-{high}"


def render_ports(first: int, last: int) -> str:
    """Return the ports from *first* to *last*: one or a range."""
    return str(first) if first == last else f"{first}-{last}"


def parse_elements(listing: Iterable[Mapping[str, Any]]) -> set[Element]:
    """Return the elements of all sets in a JSON listing."""
    return {
        Element(item["set"]["name"], _fields(key))
        for item in listing
        if "set" in item
        for key in item["set"].get("elem", ())
    }


def _fields(key: Any) -> tuple[str, ...]:  # noqa: ANN401 - any JSON that nft prints for a key
    if isinstance(key, Mapping) and "elem" in key:
        key = key["elem"]["val"]
    if isinstance(key, Mapping) and "concat" in key:
        return tuple(_field(part) for part in key["concat"])
    return (_field(key),)


def _field(part: Any) -> str:  # noqa: ANN401 - as above
    match part:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
        case _:
            return str(part)


def render_change(verb: str, table: str, elements: Sequence[Element]) -> str:
    """Return the commands that *verb*, add or delete, the elements, one command a set."""
    by_set: dict[str, list[str]] = {}
    for element in sorted(elements):
        by_set.setdefault(element.set_name, []).append(element.text)
    return "".join(
        f"{verb} element inet {table} {name} {{ {', '.join(texts)} }}\n"
        for name, texts in by_set.items()
    )
