"""The result of ADD, and what older versions of CNI make of it; pure."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface
from typing import Any

from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.spec import AttachmentSpec

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NAMESERVERS = ("198.51.100.1", "198.51.100.2", "198.51.100.3")

Json = dict[str, Any]


def result_of(spec: AttachmentSpec, *, netns: str) -> Json:
    """Return the result of an attachment in the newest form; *netns* as the runtime named it."""
    return {
        "cniVersion": VERSIONS[-1],
        "interfaces": [
            {"name": spec.bridge.name, "mac": spec.bridge.mac, "mtu": spec.bridge.mtu},
            {"name": spec.veth, "mac": spec.veth_mac, "mtu": spec.mtu},
            {"name": spec.ifname, "mac": spec.mac, "mtu": spec.mtu, "sandbox": netns},
        ],
        "ips": [{"address": str(spec.address), "gateway": str(spec.gateway), "interface": 2}],
        "routes": [
            {"dst": str(route.prefix), "gw": str(route.gateway), "priority": route.metric}
            for route in spec.routes
        ],
        "dns": {"nameservers": list(NAMESERVERS)},
    }


def convert(result: Json, version: str) -> Json:
    """Return a result of the newest form as *version* has it.

    Raises CniError for a version that we don't speak, or one that can't
    express the result.
    """
    if version not in VERSIONS:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {version!r}, plugin supports {list(VERSIONS)}",
        )
    if version == VERSIONS[-1]:
        return {**result, "cniVersion": version}
    if version in ("0.1.0", "0.2.0"):
        return _oldest(result, version)
    ips = result.get("ips", [])
    if version != "1.0.0":
        ips = [{"version": _family(ip["address"]), **ip} for ip in ips]
    return {
        **result,
        "cniVersion": version,
        "interfaces": [_only(link, "name", "mac", "sandbox") for link in result["interfaces"]],
        "ips": ips,
        "routes": [_only(route, "dst", "gw") for route in result.get("routes", [])],
    }


def _oldest(result: Json, version: str) -> Json:
    """Keep the first address of each family and the routes of that family."""
    old: Json = {"cniVersion": version}
    for ip in result.get("ips", []):
        family = _family(ip["address"])
        if (key := f"ip{family}") in old:
            continue
        routes = [
            _only(route, "dst", "gw")
            for route in result.get("routes", [])
            if _family(route["dst"]) == family
        ]
        old[key] = {"ip": ip["address"], **_only(ip, "gateway")}
        if routes:
            old[key]["routes"] = routes
    if len(old) == 1:
        raise CniError(
            Code.INCOMPATIBLE_VERSION, f"a result without an address has no form in {version}"
        )
    return {**old, "dns": result.get("dns", {})}


def addresses_of(result: Mapping[str, Any]) -> Sequence[IPv4Interface]:
    """Return the IPv4 addresses of a result of any version; raise ValueError if it is none."""
    try:
        if "ip4" in result:
            return [IPv4Interface(result["ip4"]["ip"])]
        found = [ip["address"] for ip in result.get("ips", [])]
        return [IPv4Interface(text) for text in found if _family(text) == "4"]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a result: {error}") from error


def _family(text: str) -> str:
    return "6" if ":" in text else "4"


def _only(value: Json, *keys: str) -> Json:
    return {key: value[key] for key in keys if key in value}
