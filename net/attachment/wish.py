"""What a runtime may ask for beside the network: addresses, MAC, limits, resolver; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from phalanx.core.error import InvalidError
from phalanx.net.attachment.bridge import LeasedNetwork
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.ipam.pool import Pool
from phalanx.net.model.objects import IPAddress, IPNetwork
from phalanx.net.netlink.route import mac_of, mac_text

LARGEST_BURST = 0xFFFFFFFF * 8  # bits; the kernel counts bytes in 32 bits

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a second, and bytes at once, to the container and from it; 0 is no limit."""

    inward: tuple[int, int] = (0, 0)
    outward: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class AddressRange:
    """The part of a subnet that an address is to come from."""

    subnet: IPNetwork
    first: IPAddress
    last: IPAddress
    gateway: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class Dns:
    """Resolver settings that stand in for the network's own where there are some."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


NO_LIMITS, NO_DNS = Limits(), Dns()


@dataclass(frozen=True, slots=True)
class Wishes:
    """Everything of that; empty is what the network would give by itself."""

    addresses: tuple[IPAddress, ...] = ()  # one of a family at most
    ranges: tuple[tuple[AddressRange, ...], ...] = ()  # one set of a family at most
    mac: str = ""
    limits: Limits = NO_LIMITS
    dns: Dns = NO_DNS


NO_WISHES = Wishes()


def parse_wishes(arguments: Config, runtime: Config, cni: Config) -> Wishes:
    """Read CNI_ARGS, ``runtimeConfig`` and ``args.cni``; raise CniError for what we can't do."""
    _check_aliases(runtime.get("aliases"))
    return Wishes(
        addresses=_addresses(arguments, runtime, cni),
        ranges=_ranges(runtime.get("ipRanges")),
        mac=_mac(runtime.get("mac") or cni.get("mac") or arguments.get("MAC")),
        limits=_limits(runtime.get("bandwidth")),
        dns=_dns(runtime.get("dns")),
    )


def pools(network: LeasedNetwork, wishes: Wishes) -> list[Pool]:
    """Return what each address is to come from, IPv4 first; raise InvalidError for a bad range."""
    found = []
    for leased in network.subnets:
        version = leased.subnet.version
        ranges = next((r for r in wishes.ranges if r[0].subnet.version == version), ())
        for each in ranges:
            if each.first not in leased.subnet or each.last not in leased.subnet:
                raise InvalidError(
                    f"ipRanges: {each.first}-{each.last} is not in {leased.subnet}, this node's"
                )
            if each.gateway not in (None, leased.gateway):
                raise InvalidError(f"ipRanges: gateway {each.gateway} is not {leased.gateway}")
        spans = tuple((each.first, each.last) for each in ranges)
        found.append(Pool(leased.subnet, leased.gateway, spans))
    versions = {leased.subnet.version for leased in network.subnets}
    asked = [*wishes.addresses, *(each[0].subnet for each in wishes.ranges)]
    for other in asked:
        if other.version not in versions:
            raise InvalidError(f"{other}: network {network.name!r} has no IPv{other.version}")
    return found


def _check_aliases(given: object) -> None:
    """Raise CniError unless these are names.

    They are taken and nothing is done with them: every plane answers with the
    names of the one View, which come from tasks and services.
    """
    if given is not None and not (
        isinstance(given, list) and all(isinstance(name, str) for name in given)
    ):
        raise CniError(Code.BAD_CONFIG, f"aliases: {given!r} is not a list of texts")


def _addresses(arguments: Config, runtime: Config, cni: Config) -> tuple[IPAddress, ...]:
    """Return the addresses of the first place that asks for some."""
    words = arguments.get("IP")
    for given in (runtime.get("ips"), cni.get("ips"), words.split(",") if words else None):
        if not given:
            continue
        try:
            if not isinstance(given, list):
                raise ValueError(f"{given!r} is not a list")
            found = tuple(ip_interface(str(text)).ip for text in given)
        except ValueError as error:
            raise CniError(Code.BAD_CONFIG, f"ips: {error}") from error
        if len({address.version for address in found}) != len(found):
            raise _unsupported("ips", given, "one address of a family is possible")
        return found
    return ()


def _unsupported(key: str, value: object, why: str) -> CniError:
    """Return the refusal of a field, with its key and value as CNI 1.1.0 wants both."""
    return CniError(Code.UNSUPPORTED_FIELD, f"{key}: {value!r} is not supported: {why}")


def _ranges(given: object) -> tuple[tuple[AddressRange, ...], ...]:
    if given is None:
        return ()
    try:
        sets = tuple(tuple(_range(item) for item in each) for each in _list(given))
    except (ValueError, TypeError) as error:
        raise CniError(Code.BAD_CONFIG, f"ipRanges: {error}") from error
    if not all(sets) or any(len({r.subnet.version for r in each}) > 1 for each in sets):
        raise CniError(Code.BAD_CONFIG, "ipRanges: a set is empty, or of both families")
    if len({each[0].subnet.version for each in sets}) != len(sets):
        raise _unsupported("ipRanges", given, "one address of a family is possible")
    return sets


def _range(item: object) -> AddressRange:
    if not isinstance(item, dict):
        raise TypeError(f"{item!r} is not an object")
    subnet = ip_network(str(item.get("subnet")))
    gateway = ip_address(item["gateway"]) if item.get("gateway") else None
    first = ip_address(item["rangeStart"]) if item.get("rangeStart") else subnet.network_address
    last = ip_address(item["rangeEnd"]) if item.get("rangeEnd") else subnet.broadcast_address
    if first not in subnet or last not in subnet or int(first) > int(last):
        raise ValueError(f"{first}-{last} is no range in {subnet}")
    return AddressRange(subnet, first, last, gateway)


def _mac(given: object) -> str:
    if not given:
        return ""
    try:
        return mac_text(mac_of(str(given)))
    except ValueError as error:
        raise CniError(Code.BAD_CONFIG, f"mac: {error}") from error


def _limits(given: object) -> Limits:
    if given is None:
        return NO_LIMITS
    if not isinstance(given, dict):
        raise CniError(Code.BAD_CONFIG, f"bandwidth: {given!r} is not an object")
    pairs = []
    for word in ("ingress", "egress"):
        rate, burst = (given.get(f"{word}{key}") or 0 for key in ("Rate", "Burst"))
        if not (type(rate) is type(burst) is int) or min(rate, burst) < 0:
            raise CniError(Code.BAD_CONFIG, f"bandwidth: {word}: is not a number of bits")
        if bool(rate) != bool(burst):
            raise CniError(Code.BAD_CONFIG, f"bandwidth: {word}: rate and burst go together")
        if rate and (min(rate, burst) < 8 or burst > LARGEST_BURST):
            raise CniError(Code.BAD_CONFIG, f"bandwidth: {word}: too small or too large")
        pairs.append((rate // 8, burst // 8))
    return Limits(pairs[0], pairs[1])


def _dns(given: object) -> Dns:
    """Read the capability's words (``servers``, ``searches``, ``options``) and the result's."""
    if given is None:
        return NO_DNS
    if not isinstance(given, dict):
        raise CniError(Code.BAD_CONFIG, f"dns: {given!r} is not an object")
    servers = _texts(given, "servers", "nameservers")
    try:
        nameservers = tuple(str(ip_address(each)) for each in servers)
    except ValueError as error:
        raise CniError(Code.BAD_CONFIG, f"dns: {error}") from error
    return Dns(nameservers, _texts(given, "searches", "search"), _texts(given, "options"))


def _texts(given: Config, *keys: str) -> tuple[str, ...]:
    found: object = next((given[key] for key in keys if given.get(key) is not None), [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise CniError(Code.BAD_CONFIG, f"dns: {found!r} is not a list of texts")
    return tuple(found)


def _list(given: object) -> Sequence[Any]:
    if not isinstance(given, list) or not all(isinstance(item, list) for item in given):
        raise TypeError(f"{given!r} is not a list of lists")
    return given
