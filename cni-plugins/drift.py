"""What of a container on a bridge is otherwise than its ADD left it."""

from phalanx.cni.results import objects
from phalanx.cni.setting import Settings
from phalanx.cni.skeleton import Call, Json
from phalanx.cni.space import Spaces
from phalanx.net.netlink import route as nl


def differences(spaces: Spaces, call: Call, settings: Settings, previous: Json) -> list[str]:
    """Say what is missing or otherwise than the previous result has it."""
    faults: list[str] = []
    bridge = nl.find(spaces.node, settings.bridge)
    if bridge is None or bridge.kind != "bridge":
        faults.append(f"bridge {settings.bridge} is missing")
    for item in objects(previous, "interfaces"):
        if item.get("sandbox") or item.get("name") == settings.bridge:
            continue
        is_gateway = settings.vlan and item.get("name") == f"{settings.bridge}.{settings.vlan}"
        link = nl.find(spaces.node, str(item.get("name")))
        if link is None:
            faults.append(f"host interface {item.get('name')} is missing")
        elif is_gateway:
            continue
        elif bridge is not None and link.kind == "veth" and link.master != bridge.index:
            faults.append(f"host interface {link.name} is not on {settings.bridge}")
    inside = nl.find(spaces.container, call.ifname)
    if inside is None:
        return [*faults, f"interface {call.ifname} is missing"]
    for item in objects(previous, "interfaces"):
        if item.get("sandbox") and item.get("name") == call.ifname:
            if item.get("mac") and item["mac"] != inside.mac:
                faults.append(f"interface {call.ifname} has MAC {inside.mac}, not {item['mac']}")
            if item["sandbox"] != call.netns:
                faults.append(f"sandbox is {call.netns}, not {item['sandbox']}")
    if not inside.flags & nl.UP and not settings.disabled:
        faults.append(f"interface {call.ifname} is down")
    there = nl.addresses(spaces.container, inside.index)
    for ip in objects(previous, "ips"):
        if nl.prefix_of(str(ip["address"])) not in there:
            faults.append(f"address {ip['address']} is missing")
    present = {(packed, length) for packed, length, _ in nl.routes(spaces.container, inside.index)}
    for item in objects(previous, "routes"):
        packed, length = nl.prefix_of(str(item["dst"]))
        if (nl.network_of(packed, length), length) not in present:
            faults.append(f"route to {item['dst']} is missing")
    return faults
