"""The options of phalanx-bridge."""

from phalanx.cni.skeleton import BAD_CONFIG, Call, Refusal
from phalanx.net.netlink.route import mac_of

BRIDGE = "cni0"  # unless the configuration has another
LAST_VLAN = 4094
LONGEST_NAME = 15  # of a link


class Settings:
    """The options of the main plugin."""

    def __init__(self, call: Call) -> None:
        self.bridge = call.text("bridge", BRIDGE) or BRIDGE
        self.is_default = call.flag("isDefaultGateway")
        self.is_gateway = call.flag("isGateway") or self.is_default
        self.force_address = call.flag("forceAddress")
        self.masquerade = call.flag("ipMasq")
        self.mtu = call.number("mtu", 65535)
        self.hairpin = call.flag("hairpinMode")
        self.promiscuous = call.flag("promiscMode")
        self.isolated = call.flag("portIsolation")
        self.guarded = call.flag("macspoofchk")
        self.disabled = call.flag("disableContainerInterface")
        self.asks_first = call.flag("enabledad")  # whether anybody has an IPv6 address already
        self.ipam = call.text("type", "", call.inner(call.config, "ipam"))
        if self.hairpin and self.promiscuous:
            raise Refusal(
                BAD_CONFIG, "cannot set hairpin mode and promiscuous mode at the same time"
            )
        if self.disabled and self.ipam:
            raise Refusal(BAD_CONFIG, "cannot use IPAM when disabling the container interface")
        self.vlan = call.number("vlan", LAST_VLAN)
        self.trunk = _trunk(call.config.get("vlanTrunk"))
        self.keeps_default_vlan = call.flag("preserveDefaultVlan", default=True)
        if self.vlan and self.trunk:
            raise Refusal(BAD_CONFIG, "cannot set vlan and vlanTrunk at the same time")
        if self.vlan and len(f"{self.bridge}.{self.vlan}") > LONGEST_NAME and self.is_gateway:
            raise Refusal(BAD_CONFIG, f"vlan: {self.bridge}.{self.vlan} is too long for a link")
        mac = call.runtime.get("mac") or call.args.get("mac") or call.arguments.get("MAC")
        self.mac = mac_of(str(mac)) if mac else b""


def _trunk(given: object) -> list[tuple[int, int]]:
    """Return the ranges of VLANs that go with tags, first and last each, apart and in order."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise Refusal(BAD_CONFIG, f"vlanTrunk: {given!r} is not a list")
    wanted: set[int] = set()
    for item in given:
        if not isinstance(item, dict):
            raise Refusal(BAD_CONFIG, f"vlanTrunk: {item!r} is not an object")
        numbers = {key: item.get(key) for key in ("minID", "maxID", "id")}
        for key, value in numbers.items():
            if value is not None and (type(value) is not int or not 0 < value <= LAST_VLAN):
                raise Refusal(BAD_CONFIG, f"vlanTrunk: incorrect {key}: {value!r}")
        first, last, one = (numbers[key] for key in ("minID", "maxID", "id"))
        if (first is None) != (last is None):
            raise Refusal(BAD_CONFIG, "vlanTrunk: minID and maxID go together")
        if isinstance(first, int) and isinstance(last, int):
            if first > last:
                raise Refusal(BAD_CONFIG, "vlanTrunk: minID is greater than maxID")
            wanted.update(range(first, last + 1))
        if isinstance(one, int):
            wanted.add(one)
    found: list[tuple[int, int]] = []
    for number in sorted(wanted):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
