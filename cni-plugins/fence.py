"""phalanx-isolation: who may reach a container, and what it may send as its own."""

from phalanx.cni.hostport import store
from phalanx.cni.results import objects, router_of
from phalanx.cni.skeleton import BAD_CONFIG, DIFFERS, Call, Json, Plugin, Refusal, warn_of_walls
from phalanx.net.hostport.forward import accept, missing
from phalanx.net.hostport.guard import guard_elements, mac_elements
from phalanx.net.netlink.nft import BRIDGE, INET, Element, name
from phalanx.net.netlink.route import family_of, mac_of, prefix_of

POLICIES = ("", "open", "same-bridge", "isolated")
BACKENDS = ("", "iptables", "nftables")  # what we do is right beside either


def check_policy(call: Call) -> str:
    """Return the ingress policy; raise Refusal if there is none of that name."""
    policy = call.text("ingressPolicy", "")
    if policy not in POLICIES:
        raise Refusal(BAD_CONFIG, f"ingressPolicy: unknown policy {policy!r}")
    return policy


def check_backend(call: Call) -> None:
    """Raise Refusal for a firewall that we don't speak to, and that would go on dropping."""
    if call.text("backend", "") not in BACKENDS:
        call.refuse("backend", why="put the bridge into a zone of the firewall's that lets it pass")


def elements(
    call: Call, result: Json, *, is_guarded: bool = False, is_alone: bool = False
) -> list[Element]:
    """Return the elements that the options ask for.

    *is_guarded*: the MAC is checked whatever the options say; *is_alone*: the
    plugin was called for this, so addresses are checked unless told otherwise.
    """
    policy = check_policy(call)
    addresses = call.flag("antiSpoofing", default=is_alone)
    links = objects(result, "interfaces")
    outside = [str(each.get("name", "")) for each in links if not each.get("sandbox")]
    inside = next((each for each in links if each.get("sandbox")), None)
    found: list[Element] = []
    if policy in ("same-bridge", "isolated"):
        if not outside:
            raise Refusal(BAD_CONFIG, f"ingressPolicy {policy!r}: prevResult names no bridge")
        bridge = router_of(result)
        found.append(Element(INET, "fenced", name(bridge), is_shared=True))
        if policy == "same-bridge":
            found.append(Element(INET, "same", name(bridge) + name(bridge), is_shared=True))
        elif len(outside) > 1:
            found.append(Element(BRIDGE, "isolated", name(outside[1])))
    if not (addresses or is_guarded) or len(outside) < 2 or inside is None:
        return found
    mac = mac_of(str(inside.get("mac", "")))
    if not addresses:
        return [*found, *mac_elements(outside[1], mac)]
    own = [prefix_of(str(ip["address"]))[0] for ip in objects(result, "ips")]
    return [*found, *guard_elements(outside[1], mac, own)]


def bridges(result: Json) -> list[str]:
    """Return the bridge of a result, the first link of the node, if there is one."""
    router = router_of(result)
    return [router] if router else []


def families(result: Json) -> set[int]:
    """Return the address families of a result."""
    return {family_of(prefix_of(str(ip["address"]))[0]) for ip in objects(result, "ips")}


class Isolation(Plugin):
    """The chained plugin."""

    about = "phalanx-isolation: fences bridges, and keeps containers to their own addresses"

    def add(self, call: Call) -> Json:
        """Fence."""
        previous = call.needed_previous()
        check_backend(call)
        store(call).put(elements(call, previous, is_alone=True))
        for bridge in bridges(previous):
            accept(bridge, families(previous))
        return previous

    def delete(self, call: Call) -> None:
        """Take the fence away."""
        store(call).drop()

    def check(self, call: Call) -> None:
        """Look for the elements."""
        wanted = elements(call, call.needed_previous(), is_alone=True)
        kept = store(call)
        there = {(each.family, each.set_name, each.key) for each in kept.elements()}
        faults = kept.missing() + [
            f"{each.set_name}: not fenced"
            for each in wanted
            if (each.family, each.set_name, each.key) not in there
        ]
        previous = call.needed_previous()
        for bridge in bridges(previous):
            faults += missing(bridge, families(previous))
        if faults:
            raise Refusal(DIFFERS, f"{call.owner}: {'; '.join(faults)}")

    def status(self, call: Call) -> None:
        """Tell of a host's firewall that may be in the way."""
        check_backend(call)
        warn_of_walls()

    def collect(self, call: Call) -> None:
        """Take away the fences of nobody."""
        store(call).drop_others(call.valid())
