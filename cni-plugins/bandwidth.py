"""phalanx-bandwidth: limits what a container receives and sends.

What it receives waits in a token bucket on the node's end of its veth; what
it sends is led through a link of kind ifb with a bucket of its own. Where the
kernel has no such links, the bucket is on the container's end.
"""

import os
from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL

from phalanx.cni.results import objects
from phalanx.cni.skeleton import BAD_CONFIG, DIFFERS, Call, Json, Plugin, Refusal
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.shape import led_through, rate_of, token_bucket
from phalanx.net.netlink.wire import (
    CREATE,
    EXCL,
    Conversation,
    enter,
    nest,
    refusal,
    text,
    u32,
)

PREFIX = "phxi"  # and ten hex digits: the ifb; listed in docs/reference/marks.md
LARGEST_BURST = 0xFFFFFFFF * 8
ENODEV, UNSUPPORTED = 19, 95
KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


class Limits:
    """Bytes a second and bytes at once, to the container and from it; 0 is no limit."""

    def __init__(self, call: Call) -> None:
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
        veth = _veth(node, previous)
        try:
            if limits.inward[0]:
                node.change(token_bucket(veth.index, *limits.inward), f"limit of {veth.name}")
            if limits.outward[0]:
                _limit_outward(call, node, veth, limits, previous)
        except OSError:
            _remove(node, call)
            raise
        return previous

    def delete(self, call: Call) -> None:
        """Remove the link; the buckets go with the veth."""
        _remove(Conversation(), call)

    def check(self, call: Call) -> None:
        """Compare the rates with the kernel's."""
        previous, limits = call.needed_previous(), Limits(call)
        node = Conversation()
        veth = _veth(node, previous)
        faults = []
        if limits.inward[0] and rate_of(node, veth.index) != limits.inward[0]:
            faults.append(f"{veth.name} lets another rate in")
        if limits.outward[0]:
            link = nl.find(node, _name(call))
            found = rate_of(node, link.index) if link else _inside_rate(call)
            if found != limits.outward[0]:
                faults.append(f"{call.owner} may send at another rate")
        if faults:
            raise Refusal(DIFFERS, "; ".join(faults))

    def collect(self, call: Call) -> None:
        """Remove the links of nobody."""
        node, valid = Conversation(), call.valid()
        for link in nl.links(node):
            kind, _, rest = link.alias.partition(" ")
            network, _, owner = rest.partition(" ")
            is_ours = link.name.startswith(PREFIX) and (kind, network) == ("cni", call.network)
            if is_ours and owner not in valid:
                node.tell(nl.link(nl.DELLINK, index=link.index))


def _asked(call: Call) -> Json:
    return call.inner(call.runtime, "bandwidth", "runtimeConfig.bandwidth")


def _name(call: Call) -> str:
    return f"{PREFIX}{sha1(call.owner.encode()).hexdigest()[:10]}"


def _veth(node: Conversation, previous: Json) -> nl.Link:
    """Return the node's end of the container's veth, by the result of the plugins before."""
    for item in objects(previous, "interfaces"):
        if not item.get("sandbox"):
            link = nl.find(node, str(item.get("name")))
            if link is not None and link.kind == "veth":
                return link
    raise Refusal(BAD_CONFIG, "prevResult names no veth of the node")


def _limit_outward(
    call: Call, node: Conversation, veth: nl.Link, limits: Limits, previous: Json
) -> None:
    [number] = node.tell(
        nl.link(
            nl.NEWLINK,
            text(nl.NAME, _name(call)),
            u32(nl.MTU, veth.mtu),
            nest(nl.INFO, text(nl.KIND, "ifb")),
            flags=nl.UP,
            change=nl.UP,
            options=CREATE | EXCL,
        )
    )
    if number == UNSUPPORTED:
        inside, index = _inside(call)
        inside.change(token_bucket(index, *limits.outward), f"limit of {call.ifname}")
        return
    if number:
        raise refusal(number, _name(call))
    alias = f"cni {call.network} {call.owner}"
    node.tell(nl.port(_name(call), alias=alias, hairpin=False, isolated=False))
    link = nl.find(node, _name(call))
    if link is None:
        raise refusal(ENODEV, _name(call))
    for message in (
        *led_through(veth.index, link.index),
        token_bucket(link.index, *limits.outward),
    ):
        node.change(message, f"limit of {veth.name}")
    links = objects(previous, "interfaces")
    links.append({"name": link.name, "mac": link.mac})
    previous["interfaces"] = links


def _inside(call: Call) -> tuple[Conversation, int]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    enter(call.open_netns())
    try:
        inside = Conversation()
    finally:
        enter(home)
    link = nl.find(inside, call.ifname)
    if link is None:
        raise refusal(ENODEV, call.ifname)
    return inside, link.index


def _inside_rate(call: Call) -> int:
    return rate_of(*_inside(call))


def _remove(node: Conversation, call: Call) -> None:
    [number] = node.tell(nl.link(nl.DELLINK, text(nl.NAME, _name(call))))
    if number not in (0, ENODEV):
        raise refusal(number, _name(call))
