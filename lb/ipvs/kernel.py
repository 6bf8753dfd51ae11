"""IPVS of the calling thread's network namespace, by generic netlink."""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from phalanx.lb.ipvs.commands import commands
from phalanx.lb.ipvs.message import (
    GENL_ID_CTRL,
    GET_DEST,
    GET_SERVICE,
    Destination,
    Held,
    decode_backend,
    decode_family,
    decode_service,
    encode_family_question,
    encode_question,
    encode_service,
)
from phalanx.lb.ipvs.proc import parse_table
from phalanx.lb.service import Service, Vip
from phalanx.net.rtnl.conversation import Conversation

# There only while the module is loaded: to look does not load it.
TABLE = Path("/proc/thread-self/net/ip_vs")
SETTINGS: Mapping[str, str] = {
    "conntrack": "1",  # packets that IPVS forwards are tracked: masquerade and "established" work
    "expire_nodest_conn": "1",  # a connection whose backend has left ends, it does not hang
    "expire_quiescent_template": "1",  # affinity does not hold a source at a drained backend
}
SETTINGS_ROOT = Path("/proc/sys/net/ipv4/vs")
NETLINK_GENERIC = 16
GONE = (errno.ENOENT, errno.ESRCH)
GET_INFO = 64 + 1024 + 64 + 1  # a socket option of IPVS (IP_VS_SO_GET_INFO)
_INFO = struct.Struct("=III")  # version, buckets for connections, services of IPv4

Change = tuple[Vip, Service | None, Service | None]  # before and after


class Kept(msgspec.Struct, frozen=True):
    """A service with its backends, and what went through them."""

    held: Held
    destinations: Sequence[Destination]


def has_ipvs() -> bool:
    """Tell whether the kernel has IPVS; it loads the module if it is there."""
    with Conversation(NETLINK_GENERIC) as conversation:
        return _family(conversation) is not None


def is_loaded() -> bool:
    """Tell whether IPVS is in the kernel now."""
    return TABLE.exists()


def open_count() -> socket.socket:
    """Return what `count` asks, in the calling thread's network namespace."""
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def count(opened: socket.socket) -> int:
    """Return how many services of IPv4 there are, ours or not, at the cost of one call."""
    try:
        answer = opened.getsockopt(socket.IPPROTO_IP, GET_INFO, _INFO.size)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return 0
    return int(_INFO.unpack(answer)[2])


def listing() -> dict[Vip, Kept]:
    """Return every service that has a VIP, ours or not, without counters; raises OSError.

    Limits on a backend's connections are not seen.
    """
    if not is_loaded():
        return {}
    kept: dict[Vip, Kept] = {}
    with Conversation(NETLINK_GENERIC) as conversation:
        family = _family(conversation)
        if family is None:
            return {}
        services = _services(conversation, family)
        try:
            backends = parse_table(TABLE.read_bytes())
        except (ValueError, IndexError):  # a kernel that words it otherwise
            backends = {}
        for held in services:
            found = backends.get(held.vip)
            if found is None:  # or somebody else changes the table: the text was of another moment
                found = _backends(conversation, family, held.vip)
            if found is not None:
                kept[held.vip] = Kept(held, found)
    return kept


def find(vips: Iterable[Vip]) -> dict[Vip, Kept]:
    """Return those of these services that there are, ours or not; raises OSError."""
    if not is_loaded():
        return {}
    kept: dict[Vip, Kept] = {}
    with Conversation(NETLINK_GENERIC) as conversation:
        family = _family(conversation)
        if family is None:
            return {}
        for vip in vips:
            try:
                answers = conversation.answers(family, encode_service(GET_SERVICE, vip))
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            held = decode_service(answers[0]) if answers else None
            found = _backends(conversation, family, vip)
            if held is not None and found is not None:
                kept[vip] = Kept(held, found)
    return kept


def dump() -> dict[Vip, Kept]:
    """Return every service that has a VIP with its counters, by a dump for each; raises OSError."""
    if not is_loaded():
        return {}
    with Conversation(NETLINK_GENERIC) as conversation:
        family = _family(conversation)
        if family is None:
            return {}
        found = {
            held: _backends(conversation, family, held.vip)
            for held in _services(conversation, family)
        }
    return {held.vip: Kept(held, each) for held, each in found.items() if each is not None}


def change(changes: Iterable[Change]) -> list[str]:
    """Make the changes; return what was refused; raises OSError."""
    requests: list[bytes] = []
    owners: list[Vip] = []
    is_new: dict[Vip, bool] = {}
    for vip, before, after in changes:
        fresh = list(commands(vip, before, after))
        requests += fresh
        owners += [vip] * len(fresh)
        is_new[vip] = before is None
    if not requests:
        return []
    with Conversation(NETLINK_GENERIC) as conversation:
        family = _family(conversation)
        if family is None:
            return ["this kernel has no IPVS any more"]
        numbers = conversation.tell(family, requests)
    refusals: dict[Vip, str] = {}
    for place in sorted(numbers):
        vip, number = owners[place], numbers[place]
        is_foreign = number == errno.EEXIST and is_new[vip]
        why = "there is a service that is not ours" if is_foreign else os.strerror(number)
        refusals.setdefault(vip, f"{vip}: {why}")
    return list(refusals.values())


def settings() -> dict[str, str]:
    """Return our settings as they are; nothing while IPVS is not loaded."""
    return {
        name: (SETTINGS_ROOT / name).read_text().strip()
        for name in SETTINGS
        if (SETTINGS_ROOT / name).exists()
    }


def set_settings() -> None:
    """Write our settings where they exist and differ; raises OSError."""
    for name, value in settings().items():
        if value != SETTINGS[name]:
            (SETTINGS_ROOT / name).write_text(SETTINGS[name])


def _services(conversation: Conversation, family: int) -> list[Held]:
    answers = conversation.dump(family, encode_question(GET_SERVICE))
    return [held for answer in answers if (held := decode_service(answer)) is not None]


def _backends(conversation: Conversation, family: int, vip: Vip) -> list[Destination] | None:
    """Return what a service's dump tells; None if the service is gone."""
    try:
        answers = conversation.dump(family, encode_service(GET_DEST, vip))
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None
    version = socket.AF_INET6 if vip.address.version == 6 else socket.AF_INET
    found = (decode_backend(answer, version) for answer in answers)
    return [each for each in found if each is not None]


def _family(conversation: Conversation) -> int | None:
    """Return the number of the family; to ask for it by name makes the kernel load the module."""
    try:
        [answer] = conversation.answers(GENL_ID_CTRL, encode_family_question())
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None
    return decode_family(answer)
