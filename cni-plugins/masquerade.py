"""ipMasq: what a container sends out of its subnet comes from the node's address."""

from phalanx.cni.results import objects
from phalanx.cni.skeleton import Call, Json
from phalanx.net.hostport.port import near
from phalanx.net.netlink.nft import INET, Element
from phalanx.net.netlink.route import prefix_of


def elements(call: Call, result: Json) -> list[Element]:
    """Return the elements for each address of a result."""
    found = []
    for ip in objects(result, "ips"):
        packed, length = prefix_of(str(ip["address"]))
        set_name = "masked4" if len(packed) == 4 else "masked6"
        what = f"masquerade of {ip['address']} for {call.network}"
        found += [Element(INET, set_name, packed, what=what), near(packed, length)]
    return found
