"""The result of ADD, and what older versions of CNI make of it; pure."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

from phalanx.net.attachment.bridge import Interface
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.spec import AttachmentSpec
from phalanx.net.attachment.wish import NO_DNS, Dns
from phalanx.net.ipam.owner import Owner

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NAMESERVERS = ("198.51.100.1", "198.51.100.2", "198.51.100.3")
NAMESERVERS6 = ("fd01:d::c633:6401", "fd01:d::c633:6402", "fd01:d::c633:6403")  # dcos-net §3.10

Json = dict[str, Any]


def result_of(spec: AttachmentSpec, *, netns: str, dns: Dns = NO_DNS) -> Json:
    """Return the result of an attachment in the newest form.

    *netns* is as the runtime named it; what *dns* leaves open is the cluster's own.
    """
    return {
        "cniVersion": VERSIONS[-1],
        "interfaces": [
            {"name": spec.bridge.name, "mac": spec.bridge.mac, "mtu": spec.bridge.mtu},
            {"name": spec.veth, "mac": spec.veth_mac, "mtu": spec.mtu},
            {"name": spec.ifname, "mac": spec.mac, "mtu": spec.mtu, "sandbox": netns},
        ],
        "ips": [
            {"address": str(address), "gateway": str(gateway), "interface": 2}
            for address, gateway in zip(spec.addresses, spec.gateways, strict=True)
        ],
        "routes": [
            {"dst": str(route.prefix), "gw": str(route.gateway), "priority": route.metric}
            for route in spec.routes
        ],
        "dns": _resolver(spec, dns),
    }


def _resolver(spec: AttachmentSpec, dns: Dns) -> Json:
    has_ipv4 = any(address.version == 4 for address in spec.addresses)
    more = {"search": list(dns.search), "options": list(dns.options)}
    return {
        "nameservers": list(dns.nameservers or (NAMESERVERS if has_ipv4 else NAMESERVERS6)),
        **{key: value for key, value in more.items() if value},
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


def addresses_of(result: Mapping[str, Any]) -> Sequence[Interface]:
    """Return the addresses of a result of any version; raise ValueError if it is none."""
    try:
        old = [result[key]["ip"] for key in ("ip4", "ip6") if key in result]
        found = old or [ip["address"] for ip in result.get("ips", [])]
        return [ip_interface(text) for text in found]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a result: {error}") from error


def mac_in(result: Mapping[str, Any], owner: Owner) -> str:
    """Return the MAC that a result gives the container's interface, "" when it says none."""
    links = result.get("interfaces")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("sandbox") and link.get("name") == owner.ifname:
            return str(link.get("mac") or "").lower()
    return ""


def _family(text: str) -> str:
    return "6" if ":" in text else "4"


def _only(value: Json, *keys: str) -> Json:
    return {key: value[key] for key in keys if key in value}
