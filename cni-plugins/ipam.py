"""Addresses from given ranges, with the options of the reference plugin host-local."""

from phalanx.cni.leases import Leases, NothingFreeError, Range, exists
from phalanx.cni.leasing import ask_delete, ask_plane, virtual_network
from phalanx.cni.results import objects
from phalanx.cni.skeleton import (
    BAD_CONFIG,
    DIFFERS,
    EXISTS,
    NOT_AVAILABLE,
    UNKNOWN_CONTAINER,
    Call,
    Json,
    Plugin,
    Refusal,
)
from phalanx.net.netlink.route import address_text, last_of, network_of, packed_of, prefix_of

TYPE_CHECKING = False  # typing takes longer to load than a lease to write
if TYPE_CHECKING:
    from collections.abc import Callable

TYPE = "phalanx-ipam"
DIRECTORY = "/var/lib/cni/networks"
NO_ADDRESS = 11
FIELDS = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")


class Plan:
    """What the ``ipam`` part of a configuration and the runtime's wishes come to."""

    def __init__(self, call: Call) -> None:
        ipam = call.inner(call.config, "ipam")
        if not ipam:
            raise Refusal(BAD_CONFIG, "IPAM config missing 'ipam' key")
        self.directory = call.text("dataDir", DIRECTORY, ipam) or DIRECTORY
        self.resolver = call.text("resolvConf", "", ipam)
        self.routes = [_route(each) for each in objects(ipam, "routes")]
        self.sets: list[list[Range]] = []
        self.wishes: list[bytes] = []
        if virtual_network(call):
            return  # the plane knows the rest
        sets: list[object] = []
        if ipam.get("subnet") is not None:
            keys = ("subnet", "rangeStart", "rangeEnd", "gateway")
            sets.append([{key: ipam[key] for key in keys if key in ipam}])
        for given in (call.runtime.get("ipRanges"), ipam.get("ranges")):
            if given is not None and not isinstance(given, list):
                raise Refusal(BAD_CONFIG, f"ranges: {given!r} is not a list")
            sets += given or []
        self.sets = [_range_set(each, index) for index, each in enumerate(sets)]
        if not self.sets:
            raise Refusal(BAD_CONFIG, "no IP ranges specified")
        _check_sets(self.sets, call.version)
        self.wishes = _wishes(call)


def lease(call: Call, plan: Plan, *, take_over: bool = False) -> Json:
    """Lease an address of each range set and return the result's part; raise Refusal.

    With *take_over* the owner is known to have no link, so what it holds is
    left from an ADD that died.
    """
    if virtual_network(call):
        more = {"routes": plan.routes, "dns": _resolver(plan.resolver)}
        return {**ask_plane(call, take_over=take_over), **more}
    wishes = set(plan.wishes)
    result: list[Json] = []
    with Leases(plan.directory, call.network) as leases:
        if call.owner in (held := leases.held()).values():
            if not take_over:
                mine = sorted(name for name, owner in held.items() if owner == call.owner)
                raise Refusal(
                    EXISTS,
                    f"{mine[0]} has been allocated to {call.container}, "
                    "duplicate allocation is not allowed",
                )
            leases.free(lambda owner: owner == call.owner)
        try:
            for position, ranges in enumerate(plan.sets):
                wanted = next((wish for wish in sorted(wishes) if _in_subnet(ranges, wish)), None)
                number = None if wanted is None else int.from_bytes(wanted, "big")
                packed = leases.reserve(call.owner, ranges, position, number)
                if wanted is not None:
                    wishes.discard(wanted)
                each = next(e for e in ranges if _in_subnet([e], packed))
                ip: Json = {"address": f"{address_text(packed)}/{each.length}"}
                if each.gateway >= 0:
                    ip["gateway"] = address_text(each.packed(each.gateway))
                result.append(ip)
            if wishes:
                names = ", ".join(address_text(wish) for wish in sorted(wishes))
                raise ValueError(f"requested IPs {names} are not in any range")
        except BaseException as error:
            leases.free(lambda owner: owner == call.owner)
            if isinstance(error, NothingFreeError):
                raise Refusal(NO_ADDRESS, f"failed to allocate: {error}") from error
            raise
    return {"ips": result, "routes": plan.routes, "dns": _resolver(plan.resolver)}


def release(call: Call, directory: str) -> None:
    """Free what the owner holds; holding nothing is no error."""
    if virtual_network(call):
        ask_delete(call)
        return
    _free(call, directory, lambda owner: owner in (call.owner, f"{call.container}:"))


def release_others(call: Call, directory: str) -> None:
    """Free every lease of the network whose owner is not valid."""
    if virtual_network(call):
        ask_plane(call)
        return
    valid = call.valid()
    containers = {owner.rpartition(":")[0] for owner in valid}

    def is_over(owner: str) -> bool:
        container, _, ifname = owner.rpartition(":")
        return owner not in valid and (ifname != "" or container not in containers)

    _free(call, directory, is_over)


def _free(call: Call, directory: str, is_over: "Callable[[str], bool]") -> None:
    if exists(directory, call.network):
        with Leases(directory, call.network) as leases:
            leases.free(is_over)


def directory_of(call: Call) -> str:
    """Return where the leases are, of a configuration of which no more has to be right."""
    ipam = call.inner(call.config, "ipam")
    return call.text("dataDir", DIRECTORY, ipam) or DIRECTORY


def check(call: Call, directory: str) -> None:
    """Raise Refusal unless the owner holds the addresses of the previous result."""
    if virtual_network(call):
        call.needed_previous()
        ask_plane(call)
        return
    held: set[str] = set()
    if exists(directory, call.network):
        with Leases(directory, call.network) as leases:
            held = {name for name, owner in leases.held().items() if owner == call.owner}
    if not held:
        raise Refusal(
            UNKNOWN_CONTAINER, f"host-local: failed to find address added by {call.container}"
        )
    missing = [
        address
        for ip in objects(call.previous or {}, "ips")
        if (address := str(ip["address"]).partition("/")[0]) not in held
    ]
    if len(missing) == len(objects(call.previous or {}, "ips")) and missing:
        raise Refusal(DIFFERS, f"{call.owner} does not hold {', '.join(missing)}")


def check_room(call: Call, plan: Plan) -> None:
    """Raise Refusal unless an address of each range set is free."""
    if virtual_network(call):
        ask_plane(call)
        return
    with Leases(plan.directory, call.network) as leases:
        held = [int.from_bytes(packed_of(name), "big") for name in leases.held()]
    for ranges in plan.sets:
        room = sum(each.last - each.first + 1 - _has(each, each.gateway) for each in ranges)
        if sum(any(_has(each, one) for each in ranges) for one in held) >= room:
            names = ",".join(map(str, ranges))
            raise Refusal(NOT_AVAILABLE, f"no IP addresses available in range set: {names}")


def _has(each: Range, address: int) -> bool:
    return each.first <= address <= each.last


class Ipam(Plugin):
    """phalanx-ipam as a plugin of its own, for somebody else's main plugin."""

    about = f"{TYPE}: leases addresses from given ranges"

    def add(self, call: Call) -> Json:
        """Lease."""
        return lease(call, Plan(call))

    def delete(self, call: Call) -> None:
        """Free."""
        release(call, directory_of(call))

    def check(self, call: Call) -> None:
        """Look for the lease."""
        check(call, directory_of(call))

    def collect(self, call: Call) -> None:
        """Free what is nobody's."""
        release_others(call, directory_of(call))

    def status(self, call: Call) -> None:
        """Look for room."""
        check_room(call, Plan(call))


def _range_set(value: object, index: int) -> list[Range]:
    if not isinstance(value, list) or not value:
        raise Refusal(BAD_CONFIG, f"ranges[{index}]: {value!r} is not a list of ranges")
    ranges = []
    for item in value:
        if not isinstance(item, dict):
            raise Refusal(BAD_CONFIG, f"ranges[{index}]: {item!r} is not an object")
        try:
            ranges.append(_range(item))
        except ValueError as error:
            raise Refusal(BAD_CONFIG, f"invalid range set {index}: {error}") from error
    return ranges


def _range(item: Json) -> Range:
    packed, length = prefix_of(str(item.get("subnet", "")))
    size = len(packed)
    if network_of(packed, length) != packed:
        raise ValueError(f"subnet {item['subnet']} has bits of a host")
    if length > 8 * size - 2:
        raise ValueError(f"subnet {item['subnet']} too small to allocate from")
    base, top = int.from_bytes(packed, "big"), int.from_bytes(last_of(packed, length), "big")

    def one(key: str, default: int) -> int:
        if not item.get(key):
            return default
        value = packed_of(str(item[key]))
        number = int.from_bytes(value, "big")
        if len(value) != size or not base <= number <= top:
            raise ValueError(f"{key} {item[key]} not in network {item['subnet']}")
        return number

    first = one("rangeStart", base + 1)
    last = one("rangeEnd", top - (size == 4))
    if first > last:
        raise ValueError(f"rangeStart {item.get('rangeStart')} is after the range's end")
    return Range(base, length, first, last, one("gateway", base + 1), size)


def _check_sets(sets: list[list[Range]], version: str) -> None:
    families = [ranges[0].size for ranges in sets]
    for index, ranges in enumerate(sets):
        if any(each.size != families[index] for each in ranges):
            raise Refusal(BAD_CONFIG, f"range set {index}: mixed address families")
    if version in ("0.1.0", "0.2.0") and len(set(families)) != len(families):
        raise Refusal(
            BAD_CONFIG, f"CNI version {version} does not support more than 1 address per family"
        )
    flat = [(each, index) for index, ranges in enumerate(sets) for each in ranges]
    for position, (one, _) in enumerate(flat):
        for other, index in flat[position + 1 :]:
            if one.size == other.size and one.first <= other.last and other.first <= one.last:
                raise Refusal(BAD_CONFIG, f"range set {index} overlaps with {one}")


def _in_subnet(ranges: list[Range], packed: bytes) -> bool:
    number = int.from_bytes(packed, "big")
    return any(
        len(packed) == each.size
        and each.subnet <= number < each.subnet + (1 << 8 * each.size - each.length)
        for each in ranges
    )


def _wishes(call: Call) -> list[bytes]:
    """Return the addresses that are asked for; all places count, as with host-local."""
    found: list[bytes] = []
    places: list[object] = [call.runtime.get("ips"), call.args.get("ips")]
    if call.arguments.get("IP"):
        places.append(call.arguments["IP"].split(","))
    for given in places:
        if given is None:
            continue
        if not isinstance(given, list):
            raise Refusal(BAD_CONFIG, f"ips: {given!r} is not a list")
        for item in given:
            packed = packed_of(str(item).partition("/")[0])
            if packed not in found:
                found.append(packed)
    return found


def _route(item: Json) -> Json:
    try:
        packed, length = prefix_of(str(item.get("dst", "")))
        if item.get("gw"):
            packed_of(str(item["gw"]))
    except ValueError as error:
        raise Refusal(BAD_CONFIG, f"routes: {error}") from error
    route = {key: item[key] for key in FIELDS if item.get(key) is not None}
    route["dst"] = f"{address_text(network_of(packed, length))}/{length}"
    return route


def _resolver(path: str) -> Json:
    """Return the settings of a file like /etc/resolv.conf; raise Refusal when it can't be read."""
    if not path:
        return {}
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise Refusal(BAD_CONFIG, f"resolvConf: {path}: {error.strerror}") from error
    dns: Json = {}
    servers: list[str] = []
    for line in lines:
        words = line.split()
        if not words or line[:1] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] == "domain" and len(words) > 1:
            dns["domain"] = words[1]
        elif words[0] in ("search", "options"):
            dns[words[0]] = words[1:]
    if servers:
        dns["nameservers"] = servers
    return dns
