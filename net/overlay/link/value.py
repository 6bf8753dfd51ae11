"""What the VXLAN link must look like."""

from dataclasses import dataclass

from phalanx.net.overlay.mark import VXLAN_PORT


@dataclass(frozen=True, slots=True)
class VxlanLink:
    """A VXLAN-GPE link in collect-metadata mode: the route says where to and which VNI.

    It has no MAC address, nor any neighbours and forwarding entries.
    """

    mtu: int
    port: int = VXLAN_PORT
    is_up: bool = True


@dataclass(frozen=True, slots=True)
class OtherLink:
    """A link of our name that can't be made right, only made anew."""

    form: str


Link = VxlanLink | OtherLink
