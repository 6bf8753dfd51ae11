"""phalanx-bridge: a container's interface on a bridge of the node, whole in one process.

With ``ipam.type`` phalanx-ipam the lease is made here; any other IPAM plugin
is run. `docs/design/cni.md` lists the options.
"""

import posix
from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL

from phalanx.cni import ipam
from phalanx.cni.exec import delegate
from phalanx.cni.inside import configure, found
from phalanx.cni.results import objects, upward
from phalanx.cni.setting import BRIDGE, Settings
from phalanx.cni.skeleton import (
    BAD_CONFIG,
    DIFFERS,
    EXISTS,
    Call,
    Json,
    Plugin,
    Refusal,
    warn_of_walls,
)
from phalanx.cni.space import Spaces, write_setting
from phalanx.net.netlink import file
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.wire import Conversation, refusal, text

TYPE_CHECKING = False  # typing takes longer to load than an attachment to make
if TYPE_CHECKING:
    from phalanx.cni.rules import Rules
    from phalanx.net.hostport.store import Elements

EEXIST, ENODEV, ENOENT = 17, 19, 2
PREFIX = (
    "phxb"  # of the node's end of a veth, and ten hex digits; listed in docs/reference/marks.md
)
ALIAS = "cni"  # and network and owner: whose a veth is, for GC
FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 16: "/proc/sys/net/ipv6/conf/all/forwarding"}


RULES = ("ipMasq", "ingressPolicy", "antiSpoofing", "macspoofchk")


def _rules(call: Call, settings: Settings) -> "Rules | None":
    """Return what makes the rules that are asked for; they are checked, but none is made."""
    if not call.runtime.get("portMappings") and not any(call.config.get(key) for key in RULES):
        return None
    from phalanx.cni.rules import Rules

    return Rules(call, masquerade=settings.masquerade, guarded=settings.guarded)


def _kept_rules(call: Call) -> "Elements | None":
    """Return the rules of the owner, if anybody on this node ever had some."""
    if not file.exists("/run/phalanx/cni"):
        return None
    from phalanx.cni.hostport import store

    return store(call)


def veth_name(owner: str) -> str:
    """Return the name of the node's end of an owner's attachment."""
    return f"{PREFIX}{sha1(owner.encode()).hexdigest()[:10]}"


class Bridge(Plugin):
    """The main plugin."""

    about = "phalanx-bridge: attaches a container to a bridge of the node"

    def add(self, call: Call) -> Json:
        """Attach; a failure takes back what was made."""
        settings = Settings(call)
        rules = _rules(call, settings)
        plan = ipam.Plan(call) if settings.ipam == ipam.TYPE else None
        spaces = Spaces(call.open_netns())
        veth = veth_name(call.owner)
        if nl.find(spaces.container, call.ifname) is not None:
            raise Refusal(EXISTS, f"{call.ifname} is in the container already")
        bridge = ensure_bridge(spaces.node, settings)
        if (stale := nl.find(spaces.node, veth)) is not None:
            # The container's interface is gone, so this is of a container that had the same name.
            spaces.node.change(nl.link(nl.DELLINK, index=stale.index), veth)
        undo: list[str] = []
        try:
            result: Json = {}
            if plan is not None:
                undo.append("ipam")
                result = ipam.lease(call, plan, take_over=True)
            mac = settings.mac or _mac_for(result)
            undo.append("link")
            mtu, host_mac = settings.mtu, _any_mac()
            _make_veth(spaces, call, settings, bridge, veth, host_mac, mac)
            if settings.vlan or settings.trunk:
                from phalanx.cni import vlan

                vlan.filter_vlans(spaces.node, bridge)
                vlan.join(spaces.node, found(spaces.node, veth), settings)
            if settings.ipam and plan is None:
                undo.append("ipam")
                result = upward(delegate(settings.ipam, call.path, "ADD", call.config))
            if settings.ipam and not objects(result, "ips"):
                raise Refusal(BAD_CONFIG, "IPAM plugin returned missing IP config")
            _fill_gateways(result, settings)
            result["interfaces"] = [
                _interface(bridge.name, nl.mac_of(bridge.mac), bridge.mtu),
                _interface(veth, host_mac, mtu or 1500),
                {**_interface(call.ifname, mac, mtu or 1500), "sandbox": call.netns},
            ]
            for ip in objects(result, "ips"):
                ip["interface"] = 2
            configure(spaces, call, settings, result)
            if settings.is_gateway:
                router = bridge
                if settings.vlan:
                    router = vlan.gateway(spaces.node, bridge, settings)
                    link = _interface(router.name, nl.mac_of(router.mac), router.mtu)
                    result["interfaces"] = [*objects(result, "interfaces"), link]
                _ensure_gateways(spaces.node, router, settings, result)
            if rules is not None:
                undo.append("rules")
                rules.add(result)
        except BaseException:
            _undo(call, settings, spaces, undo, veth)
            raise
        if dns := call.inner(call.config, "dns"):
            result["dns"] = dns
        return result

    def delete(self, call: Call) -> None:
        """Detach: rules, link, then lease, as nobody else may have it while the link lives."""
        rules = _kept_rules(call)
        if rules is not None:
            rules.drop()
        _remove_link(call)
        kind = call.text("type", "", call.inner(call.config, "ipam"))
        if kind == ipam.TYPE:
            ipam.release(call, ipam.directory_of(call))
        elif kind:
            delegate(kind, call.path, "DEL", call.config)

    def check(self, call: Call) -> None:
        """Compare the kernel with the result of ADD."""
        settings = Settings(call)
        previous = call.needed_previous()
        if settings.ipam == ipam.TYPE:
            ipam.check(call, ipam.directory_of(call))
        elif settings.ipam:
            delegate(settings.ipam, call.path, "CHECK", call.config)
        from phalanx.cni.drift import differences

        faults = differences(Spaces(call.open_netns()), call, settings, previous)
        if (rules := _kept_rules(call)) is not None:
            faults += rules.missing()
        if faults:
            raise Refusal(DIFFERS, f"{call.owner}: {'; '.join(faults)}")

    def collect(self, call: Call) -> None:
        """Remove links, rules and leases of everyone who is not valid; go on after a refusal."""
        valid = call.valid()
        kept = {veth_name(owner) for owner in valid}  # an alias may be too long to name them whole
        refusals: list[str] = []
        node = Conversation()
        for link in nl.links(node):
            kind, _, rest = link.alias.partition(" ")
            network, _, _ = rest.partition(" ")
            if not link.name.startswith(PREFIX) or (kind, network) != (ALIAS, call.network):
                continue
            if link.name not in kept:
                [number] = node.tell(nl.link(nl.DELLINK, index=link.index))
                if number not in (0, ENODEV):
                    refusals.append(f"{link.name}: {posix.strerror(number)}")
        if (rules := _kept_rules(call)) is not None:
            rules.drop_others(valid)
            from phalanx.net.hostport.forward import withdraw

            withdraw(call.text("bridge", BRIDGE) or BRIDGE)
        kind = call.text("type", "", call.inner(call.config, "ipam"))
        if kind == ipam.TYPE:
            ipam.release_others(call, ipam.directory_of(call))
        elif kind:
            try:
                delegate(kind, call.path, "GC", call.config)
            except Refusal as refused:
                refusals.append(str(refused))
        if refusals:
            raise Refusal(100, "; ".join(refusals))

    def status(self, call: Call) -> None:
        """Ask the IPAM plugin; tell of a host's firewall that may be in the way."""
        settings = Settings(call)
        if settings.is_gateway:
            warn_of_walls()
        if settings.ipam == ipam.TYPE:
            ipam.check_room(call, ipam.Plan(call))
        elif settings.ipam:
            delegate(settings.ipam, call.path, "STATUS", call.config)


def ensure_bridge(node: Conversation, settings: Settings) -> nl.Link:
    """Return the bridge, made if it isn't there; raise Refusal if the name is another link's."""
    link = nl.find(node, settings.bridge)
    if link is None:
        mac = _any_mac()
        [number] = node.tell(nl.new_bridge(settings.bridge, mac, settings.mtu))
        if number not in (0, EEXIST):
            raise refusal(number, f"bridge {settings.bridge}")
        if number == 0:
            write_setting(f"/proc/sys/net/ipv6/conf/{settings.bridge}/accept_ra", "0")
        link = nl.find(node, settings.bridge)
    if link is None or link.kind != "bridge":
        raise Refusal(EXISTS, f"{settings.bridge} already exists but is not a bridge")
    flags = nl.UP | (nl.PROMISC if settings.promiscuous else 0)
    if link.flags & flags != flags:
        message = nl.link(nl.NEWLINK, index=link.index, flags=flags, change=flags)
        node.change(message, settings.bridge)
    return link


def _make_veth(
    spaces: Spaces,
    call: Call,
    settings: Settings,
    bridge: nl.Link,
    veth: str,
    host_mac: bytes,
    mac: bytes,
) -> None:
    messages = [
        nl.new_veth(veth, host_mac, bridge.index, call.ifname, mac, spaces.netns, settings.mtu),
        nl.port(
            veth,
            alias=f"{ALIAS} {call.network} {call.owner}",
            hairpin=settings.hairpin,
            isolated=settings.isolated,
        ),
    ]
    for number in spaces.node.tell(*messages):
        if number:
            raise refusal(number, f"veth {veth}, {call.ifname}")


def _mac_for(result: Json) -> bytes:
    """Derive the MAC from the IPv4 address, so that neighbours' caches stay true; or draw one."""
    for ip in objects(result, "ips"):
        packed, _ = nl.prefix_of(str(ip["address"]))
        if len(packed) == 4:
            return b"\x0a\x58" + packed
    return _any_mac()


def _any_mac() -> bytes:
    drawn = posix.urandom(6)
    return bytes([drawn[0] & 0xFC | 0x02]) + drawn[1:]


def _interface(name: str, mac: bytes, mtu: int) -> Json:
    return {"name": name, "mac": nl.mac_text(mac), "mtu": mtu}


def _fill_gateways(result: Json, settings: Settings) -> None:
    """Give each address its gateway, and each family its default route, as the options say."""
    routes = objects(result, "routes")
    for ip in objects(result, "ips"):
        packed, length = nl.prefix_of(str(ip["address"]))
        if settings.is_gateway and not ip.get("gateway"):
            base = int.from_bytes(nl.network_of(packed, length), "big") + 1
            ip["gateway"] = nl.address_text(base.to_bytes(len(packed), "big"))
        everywhere = "0.0.0.0/0" if len(packed) == 4 else "::/0"
        if settings.is_default and all(each.get("dst") != everywhere for each in routes):
            routes.append({"dst": everywhere, "gw": ip["gateway"]})
    result["routes"] = routes


def _ensure_gateways(node: Conversation, bridge: nl.Link, settings: Settings, result: Json) -> None:
    """Give the bridge the gateways' addresses and let the node forward."""
    there = nl.addresses(node, bridge.index)
    for ip in objects(result, "ips"):
        _, length = nl.prefix_of(str(ip["address"]))
        gateway = nl.packed_of(str(ip["gateway"]))
        size = len(gateway)
        if (gateway, length) not in there:
            for packed, other in there:
                if len(packed) != size or packed[:2] == b"\xfe\x80":
                    continue
                if size == 16 and nl.network_of(packed, other) != nl.network_of(gateway, length):
                    continue
                if not settings.force_address:
                    raise Refusal(
                        EXISTS,
                        f"{bridge.name} already has an IP address different from "
                        f"{nl.address_text(gateway)}/{length}",
                    )
                node.tell(nl.del_address(bridge.index, packed, other))
            [number] = node.tell(nl.new_address(bridge.index, gateway, length))
            if number not in (0, EEXIST):
                raise refusal(number, f"gateway {ip['gateway']}")
        write_setting(FORWARDING[size], "1")


def _remove_link(call: Call) -> None:
    """Remove the attachment's link, by the node's end: the namespace may be gone."""
    node = Conversation()
    veth = veth_name(call.owner)
    [number] = node.tell(nl.link(nl.DELLINK, text(nl.NAME, veth)))
    if number not in (0, ENODEV):
        raise refusal(number, veth)


def _undo(call: Call, settings: Settings, spaces: Spaces, steps: list[str], veth: str) -> None:
    """Take back what a failed ADD made, the last first; what can't be taken back is left."""
    for step in reversed(steps):
        try:
            if step == "rules":
                if (rules := _kept_rules(call)) is not None:
                    rules.drop()
            elif step == "link":
                spaces.node.tell(nl.link(nl.DELLINK, text(nl.NAME, veth)))
            elif settings.ipam == ipam.TYPE:
                ipam.release(call, ipam.directory_of(call))
            else:
                delegate(settings.ipam, call.path, "DEL", call.config)
        except (Refusal, OSError, ValueError):
            continue
