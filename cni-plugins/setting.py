"""The options of phalanx-bridge."""

from phalanx.cni.skeleton import BAD_CONFIG, Call, Refusal
from phalanx.net.netlink.route import mac_of

BRIDGE = "cni0"  # unless the configuration has another


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
        self.ipam = call.text("type", "", call.inner(call.config, "ipam"))
        if self.hairpin and self.promiscuous:
            raise Refusal(
                BAD_CONFIG, "cannot set hairpin mode and promiscuous mode at the same time"
            )
        if self.disabled and self.ipam:
            raise Refusal(BAD_CONFIG, "cannot use IPAM when disabling the container interface")
        call.number("vlan", 4094)
        call.refuse("vlan", "vlanTrunk", why="phalanx-bridge has no VLANs")
        mac = call.runtime.get("mac") or call.args.get("mac") or call.arguments.get("MAC")
        self.mac = mac_of(str(mac)) if mac else b""
