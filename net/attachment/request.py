"""One CNI command as it travels from the plugin, turned into values; pure."""

import enum
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from phalanx.net.attachment.bridge import Interface, LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.ports import PortMapping
from phalanx.net.attachment.result import VERSIONS, addresses_of, mac_in
from phalanx.net.attachment.wish import NO_WISHES, Wishes, parse_wishes
from phalanx.net.hostport.port import PROTOCOLS
from phalanx.net.ipam.owner import Owner

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
VALID = ("cni.dev/valid-attachments", "cni.dev/attachments")  # the second is historical
MESOS = "org.apache.mesos"

Config = Mapping[str, Any]


class Command(enum.StrEnum):
    """A CNI command that needs more than the plugin itself."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"


@dataclass(frozen=True, slots=True)
class Request:
    """A CNI command with what it needs of environment and configuration."""

    command: Command
    version: str
    network: str
    owner: Owner
    netns: str = ""  # as the runtime named it; it may be empty for DEL
    netns_handle: str = ""  # another way to it, through the plugin's open file
    wishes: Wishes = NO_WISHES  # ADD and CHECK
    ports: Sequence[PortMapping] = ()  # ADD: ports of the node that are to lead here
    valid: frozenset[Owner] = frozenset()  # GC: everything else goes
    leases_of: str = ""  # only addresses are asked for, for this network of another main plugin
    take_over: bool = False  # ADD of such: what the owner holds is left from one that died
    previous: Sequence[Interface] = ()  # CHECK: addresses that ADD returned
    previous_mac: str = ""  # CHECK: the container's MAC in it, if it says

    @property
    def netns_paths(self) -> tuple[str, ...]:
        """Return the paths of the container's namespace, the surest first."""
        return tuple(path for path in (self.netns_handle, self.netns) if path)


def parse_request(raw: object) -> Request:
    """Turn the JSON of the wire into a request; raise CniError if it is none."""
    if not isinstance(raw, dict) or not isinstance(config := raw.get("config"), dict):
        raise CniError(Code.BAD_ENCODING, "request: is no object with a config")
    try:
        command = Command(str(raw.get("command")))
    except ValueError as error:
        raise CniError(Code.BAD_ENVIRONMENT, f"command: {raw.get('command')!r}") from error
    name = config.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise CniError(Code.BAD_CONFIG, f"name: {name!r} is not the name of a network")
    version = config.get("cniVersion", VERSIONS[0])
    if version not in VERSIONS:
        raise CniError(Code.INCOMPATIBLE_VERSION, f"cniVersion: {version!r} is not spoken here")
    owner = Owner(_text(raw, "container_id"), _text(raw, "ifname"))
    if command in (Command.ADD, Command.DEL, Command.CHECK):
        _check_owner(owner)
    return Request(
        command=command,
        version=version,
        network=name,
        owner=owner,
        netns=_text(raw, "netns"),
        netns_handle=_text(raw, "netns_handle"),
        wishes=_wishes(raw, config) if command in (Command.ADD, Command.CHECK) else NO_WISHES,
        ports=_ports(config) if command is Command.ADD else (),
        valid=_valid(config) if command is Command.GC else frozenset(),
        leases_of=_text(raw, "leases_of"),
        take_over=raw.get("take_over") is True,
        previous=_previous(config) if command is Command.CHECK else (),
        previous_mac=mac_in(config["prevResult"], owner) if command is Command.CHECK else "",
    )


def parse_network(config: Config) -> LeasedNetwork | None:
    """Return the network that a configuration describes whole, or None.

    It does so by ``subnet``, ``subnet6`` or both; ``gateway``, ``gateway6``,
    ``mtu`` and ``vni`` may stand beside them. Without ``vni`` the bridge's
    number comes from the name, above those that a master gives out.
    """
    keys = (("subnet", "gateway", 4), ("subnet6", "gateway6", 6))
    subnets = tuple(_leased(config, *each) for each in keys if config.get(each[0]) is not None)
    if not subnets:
        return None
    digest = hashlib.sha256(str(config["name"]).encode()).digest()
    vni = config.get("vni", 0x800000 | int.from_bytes(digest[:3], "big"))
    mtu = config.get("mtu", 1500)
    for key, value, most in (("vni", vni, 0xFFFFFF), ("mtu", mtu, 65535)):
        if type(value) is not int or not 0 < value <= most:
            raise CniError(Code.BAD_CONFIG, f"{key}: {value!r} is not a number from 1 to {most}")
    return LeasedNetwork(str(config["name"]), vni, mtu, subnets)


def _leased(config: Config, key: str, gateway_key: str, version: int) -> LeasedSubnet:
    """Return a subnet of a configuration, its first address the gateway unless it says another."""
    try:
        subnet = ip_network(str(config[key]))
        gateway = ip_address(config.get(gateway_key, subnet.network_address + 1))
    except ValueError as error:
        raise CniError(Code.BAD_CONFIG, f"{key}, {gateway_key}: {error}") from error
    if subnet.version != version:
        raise CniError(Code.BAD_CONFIG, f"{key}: {subnet} is not IPv{version}")
    if gateway not in subnet:
        raise CniError(Code.BAD_CONFIG, f"{gateway_key}: {gateway} is not in {subnet}")
    return LeasedSubnet(subnet, subnet, gateway)


def _text(raw: Config, key: str) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str):
        raise CniError(Code.BAD_ENCODING, f"{key}: {value!r} is not a string")
    return value


def _check_owner(owner: Owner) -> None:
    if not NAME.fullmatch(owner.container_id):
        raise CniError(Code.BAD_ENVIRONMENT, f"CNI_CONTAINERID: {owner.container_id!r} is invalid")
    if not 0 < len(owner.ifname) < 16 or re.search(r"[\s/:]", owner.ifname):
        raise CniError(Code.BAD_ENVIRONMENT, f"CNI_IFNAME: {owner.ifname!r} is invalid")


def _object(value: Config, key: str, path: str) -> Config:
    """Return an optional object inside the configuration."""
    inner = value.get(key)
    if inner is None:
        return {}
    if not isinstance(inner, dict):
        raise CniError(Code.BAD_CONFIG, f"{path}: {inner!r} is not an object")
    return inner


def _wishes(raw: Config, config: Config) -> Wishes:
    """Return what is asked for, in whichever of the places."""
    own = {"dns": config["dns"]} if config.get("dns") else {}
    runtime = {**own, **_object(config, "runtimeConfig", "runtimeConfig")}
    args = _object(config, "args", "args")
    return parse_wishes(dict(_pairs(_text(raw, "args"))), runtime, _object(args, "cni", "args.cni"))


def _ports(config: Config) -> Sequence[PortMapping]:
    """Return the port mappings that are asked for.

    Mesos' own words count only where the configuration has no capabilities:
    where it has, another plugin of the chain may be the one that maps ports.
    """
    runtime = _object(config, "runtimeConfig", "runtimeConfig")
    if runtime.get("portMappings"):
        return _mappings(runtime["portMappings"], "hostPort", "containerPort")
    if config.get("capabilities") is not None:
        return ()
    args = _object(config, "args", "args")
    mesos = _object(args, MESOS, f"args.{MESOS}")
    info = _object(mesos, "network_info", f"args.{MESOS}.network_info")
    return _mappings(info.get("port_mappings") or [], "host_port", "container_port")


def _mappings(given: object, host_key: str, container_key: str) -> Sequence[PortMapping]:
    found: list[PortMapping] = []
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise CniError(Code.BAD_CONFIG, f"port mappings: {given!r} is not a list of objects")
    for item in given:
        host_port, container_port = item.get(host_key, 0), item.get(container_key, 0)
        if type(host_port) is not int or not 0 <= host_port <= 65535:
            raise CniError(Code.BAD_CONFIG, f"{host_key}: {host_port!r} is not a port")
        if host_port == 0:
            continue
        if type(container_port) is not int or not 0 < container_port <= 65535:
            raise CniError(Code.BAD_CONFIG, f"{container_key}: {container_port!r} is not a port")
        protocol = str(item.get("protocol") or "tcp").lower()
        if protocol not in PROTOCOLS:
            raise CniError(Code.BAD_CONFIG, f"protocol: {protocol!r} has no ports")
        try:
            host = ip_address(item["hostIP"]) if item.get("hostIP") else None
        except ValueError as error:
            raise CniError(Code.BAD_CONFIG, f"hostIP: {error}") from error
        found.append(PortMapping(host_port, container_port, protocol, host))
    return found


def _pairs(arguments: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of CNI_ARGS; keys that we don't know are nobody's mistake."""
    for pair in arguments.split(";") if arguments else ():
        if pair.count("=") != 1:
            raise CniError(Code.BAD_ENVIRONMENT, f"CNI_ARGS: {pair!r} is not KEY=VALUE")
        key, _, value = pair.partition("=")
        yield key, value


def _valid(config: Config) -> frozenset[Owner]:
    listed: Any = next((config[key] for key in VALID if config.get(key) is not None), [])
    try:
        return frozenset(Owner(item["containerID"], item["ifname"]) for item in listed)
    except (TypeError, KeyError) as error:
        raise CniError(Code.BAD_CONFIG, f"{VALID[0]}: {listed!r} is not a list of them") from error


def _previous(config: Config) -> Sequence[Interface]:
    previous = config.get("prevResult")
    if not isinstance(previous, dict):
        raise CniError(Code.BAD_CONFIG, "prevResult: is required for CHECK")
    try:
        return tuple(addresses_of(previous))
    except ValueError as error:
        raise CniError(Code.BAD_CONFIG, f"prevResult: {error}") from error
