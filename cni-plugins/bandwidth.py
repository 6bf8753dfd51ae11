"""phalanx-bandwidth: limits what a container receives and sends."""

import posix
from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL

from phalanx.cni.results import objects
from phalanx.cni.skeleton import BAD_CONFIG, DIFFERS, Call, Json, Plugin, Refusal
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.limit import Limiter
from phalanx.net.netlink.wire import Conversation, enter, refusal

PREFIX = "phxi"  # and ten hex digits: the ifb; listed in docs/reference/marks.md
LARGEST_BURST = 0xFFFFFFFF * 8
ENODEV = 19
KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


class Limits:
    """Bytes a second and bytes at once, to the container and from it; 0 is no limit."""

    def __init__(self, call: Call) -> None:
        call.refuse("shapedSubnets", "unshapedSubnets", why="limits are of a whole interface")
        given = call.config if any(call.config.get(key) for key in KEYS) else _asked(call)
        numbers = [given.get(key) or 0 for key in KEYS]
        for key, value in zip(KEYS, numbers, strict=True):
            if type(value) is not int or value < 0:
                raise Refusal(BAD_CONFIG, f"{key}: {value!r} is not a number of bits")
        in_rate, in_burst, out_rate, out_burst = (int(str(number)) for number in numbers)
        for word, rate, burst in (("ingress", in_rate, in_burst), ("egress", out_rate, out_burst)):
            if bool(rate) != bool(burst):
                raise Refusal(BAD_CONFIG, f"{word}: rate and burst go together")
            if (rate and rate < 8) or (burst and burst < 8) or burst > LARGEST_BURST:
                raise Refusal(BAD_CONFIG, f"{word}: rate or burst is too small or too large")
        self.inward = (in_rate // 8, in_burst // 8)
        self.outward = (out_rate // 8, out_burst // 8)


class Bandwidth(Plugin):
    """The chained plugin."""

    about = "phalanx-bandwidth: limits what a container sends and receives"

    def add(self, call: Call) -> Json:
        """Limit."""
        previous = call.needed_previous()
        limits = Limits(call)
        if not limits.inward[0] and not limits.outward[0]:
            return previous
        node = Conversation()
        made = _limiter(node, call).set(_veth(node, previous), limits.inward, limits.outward)
        if made is not None:
            links = objects(previous, "interfaces")
            links.append({"name": made.name, "mac": made.mac})
            previous["interfaces"] = links
        return previous

    def delete(self, call: Call) -> None:
        """Remove the link; the buckets go with the veth."""
        _limiter(Conversation(), call).remove()

    def check(self, call: Call) -> None:
        """Compare the rates with the kernel's."""
        previous, limits = call.needed_previous(), Limits(call)
        node = Conversation()
        veth = _veth(node, previous)
        faults = _limiter(node, call).faults(veth, limits.inward, limits.outward)
        if faults:
            raise Refusal(DIFFERS, "; ".join(faults))

    def collect(self, call: Call) -> None:
        """Remove the links of nobody."""
        node = Conversation()
        kept = {_name(owner) for owner in call.valid()}  # an alias may be too long for them
        for link in nl.links(node):
            kind, _, rest = link.alias.partition(" ")
            network, _, _ = rest.partition(" ")
            is_ours = link.name.startswith(PREFIX) and (kind, network) == ("cni", call.network)
            if is_ours and link.name not in kept:
                node.tell(nl.link(nl.DELLINK, index=link.index))


def _asked(call: Call) -> Json:
    return call.inner(call.runtime, "bandwidth", "runtimeConfig.bandwidth")


def _name(owner: str) -> str:
    return f"{PREFIX}{sha1(owner.encode()).hexdigest()[:10]}"


def _limiter(node: Conversation, call: Call) -> Limiter:
    alias = f"cni {call.network} {call.owner}"
    return Limiter(node, _name(call.owner), alias, lambda: _inside(call))


def _veth(node: Conversation, previous: Json) -> nl.Link:
    """Return the node's end of the container's veth, by the result of the plugins before."""
    for item in objects(previous, "interfaces"):
        if not item.get("sandbox"):
            link = nl.find(node, str(item.get("name")))
            if link is not None and link.kind == "veth":
                return link
    raise Refusal(BAD_CONFIG, "prevResult names no veth of the node")


def _inside(call: Call) -> tuple[Conversation, int]:
    home = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    enter(call.open_netns())
    try:
        inside = Conversation()
    finally:
        enter(home)
    link = nl.find(inside, call.ifname)
    if link is None:
        raise refusal(ENODEV, call.ifname)
    return inside, link.index
