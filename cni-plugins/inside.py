"""The container's end of an attachment by phalanx-bridge: up, addresses, routes."""

from phalanx.cni.results import objects
from phalanx.cni.setting import Settings
from phalanx.cni.skeleton import EXISTS, Call, Json, Refusal
from phalanx.cni.space import Spaces
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.wire import Conversation, Message, refusal

ENODEV = 19
SETTLE_SECONDS = 10


def found(talk: Conversation, name: str) -> nl.Link:
    """Return a link that has to be there; raise OSError when it is not."""
    link = nl.find(talk, name)
    if link is None:
        raise refusal(ENODEV, name)
    return link


def configure(spaces: Spaces, call: Call, settings: Settings, result: Json) -> None:
    """Set up the container's end: up, addresses, routes, in one go."""
    link = found(spaces.container, call.ifname)
    if settings.disabled:
        return
    ips = [nl.prefix_of(str(ip["address"])) for ip in objects(result, "ips")]
    if any(len(packed) == 16 for packed, _ in ips):
        spaces.set_inside(f"/proc/sys/net/ipv6/conf/{call.ifname}/disable_ipv6", "0")
        dad = "1" if settings.asks_first else "0"
        spaces.set_inside(f"/proc/sys/net/ipv6/conf/{call.ifname}/accept_dad", dad)
    messages: list[tuple[str, Message]] = [
        (
            call.ifname,
            nl.link(nl.NEWLINK, index=link.index, flags=nl.UP, change=nl.UP),
        )
    ]
    for packed, length in ips:
        what = f"address {nl.address_text(packed)}/{length}"
        message = nl.new_address(link.index, packed, length, asks=settings.asks_first)
        messages.append((what, message))
    for item in objects(result, "routes"):
        messages.append((f"route {item.get('dst')}", _route(link.index, item, result)))
    numbers = spaces.container.tell(*(message for _, message in messages))
    for (what, _), number in zip(messages, numbers, strict=True):
        if number:
            raise refusal(number, what)
    if settings.asks_first:
        _settle(spaces.container, link.index)


def _settle(inside: Conversation, index: int) -> None:
    """Wait until nobody is asked any more who has an address; raise Refusal if somebody has."""
    import time

    until = time.monotonic() + SETTLE_SECONDS
    is_asking, taken = nl.doubts(inside, index)
    while is_asking and time.monotonic() < until:
        time.sleep(0.02)  # waits: the kernel asks for a second or two, and tells nobody of the end
        is_asking, taken = nl.doubts(inside, index)
    if taken or is_asking:
        names = ", ".join(nl.address_text(each) for each in taken) or "an address"
        raise Refusal(EXISTS, f"{names}: somebody else has it, or it is not known in time")


def _route(index: int, item: Json, result: Json) -> Message:
    packed, length = nl.prefix_of(str(item["dst"]))
    gateway = b""
    if item.get("gw"):
        gateway = nl.packed_of(str(item["gw"]))
    else:
        for ip in objects(result, "ips"):
            found = nl.packed_of(str(ip["gateway"])) if ip.get("gateway") else b""
            if len(found) == len(packed):
                gateway = found
                break
    more: dict[int, bytes] = {}
    for key, kind in (("priority", 6), ("table", 15), ("mtu", -2), ("advmss", -8)):
        if type(value := item.get(key)) is int:
            more[kind] = value.to_bytes(4, "little")
    if type(scope := item.get("scope")) is int:
        more[0] = bytes([scope])
    return nl.new_route(index, packed, length, gateway, more)
