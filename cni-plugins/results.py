"""Results of ADD: from any version's form to the newest, and back; pure."""

from phalanx.cni.phalanx_net import BAD_CONFIG, INCOMPATIBLE_VERSION, Refusal

Json = dict[str, object]
OLDEST = ("0.1.0", "0.2.0")
WITH_VERSION = ("0.3.0", "0.3.1", "0.4.0")
LINK_1_1 = ("mtu", "socketPath", "pciID")
ROUTE_1_1 = ("mtu", "advmss", "priority", "table", "scope")


def objects(value: Json, key: str) -> list[Json]:
    """Return a list of objects in a result, empty when it is not there; raise Refusal."""
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Refusal(BAD_CONFIG, f"prevResult.{key}: {found!r} is not a list of objects")
    return found


def router_of(result: Json) -> str:
    """Return the node's link that a container's packets are routed by, "" when none is named.

    It is the bridge, or its gateway in a VLAN: BRIDGE.VLAN.
    """
    links = [each for each in objects(result, "interfaces") if not each.get("sandbox")]
    names = [str(each.get("name") or "") for each in links]
    if not names:
        return ""
    return next((name for name in names[1:] if _is_vlan_of(name, names[0])), names[0])


def _is_vlan_of(name: str, bridge: str) -> bool:
    return name[: len(bridge) + 1] == f"{bridge}." and name[len(bridge) + 1 :].isdecimal()


def upward(result: Json) -> Json:
    """Return a result of any version in the newest form; raise Refusal if it is none."""
    newest: Json = {}
    if "ip4" in result or "ip6" in result:
        ips: list[Json] = []
        routes: list[Json] = []
        for key in ("ip4", "ip6"):
            family = result.get(key)
            if isinstance(family, dict):
                ip = {"address": family.get("ip")}
                if family.get("gateway"):
                    ip["gateway"] = family["gateway"]
                ips.append(ip)
                routes += objects(family, "routes")
        newest = {"ips": ips, "routes": routes}
    else:
        if result.get("interfaces") is not None:
            newest["interfaces"] = [dict(item) for item in objects(result, "interfaces")]
        newest["ips"] = [
            {key: value for key, value in ip.items() if key != "version"}
            for ip in objects(result, "ips")
        ]
        newest["routes"] = objects(result, "routes")
    for ip in objects(newest, "ips"):
        if not isinstance(ip.get("address"), str):
            raise Refusal(BAD_CONFIG, f"prevResult.ips: {ip!r} has no address")
    if isinstance(result.get("dns"), dict) and result["dns"]:
        newest["dns"] = result["dns"]
    return newest


def downward(result: Json, version: str) -> Json:
    """Return a result of the newest form in a version's; raise Refusal if it has none there."""
    ips, routes = objects(result, "ips"), objects(result, "routes")
    if version in OLDEST:
        old: Json = {"cniVersion": version}
        for ip in ips:
            key = "ip6" if ":" in str(ip["address"]) else "ip4"
            if key in old:
                continue
            own: Json = {"ip": ip["address"]}
            if ip.get("gateway"):
                own["gateway"] = ip["gateway"]
            fitting = [
                _without(route, ROUTE_1_1)
                for route in routes
                if (":" in str(route["dst"])) == (key == "ip6")
            ]
            if fitting:
                own["routes"] = fitting
            old[key] = own
        if len(old) == 1:
            raise Refusal(
                INCOMPATIBLE_VERSION, f"a result without an address has no form in {version}"
            )
        return {**old, "dns": result.get("dns", {})}
    new: Json = {"cniVersion": version}
    is_newest = version == "1.1.0"
    if links := objects(result, "interfaces"):
        new["interfaces"] = links if is_newest else [_without(each, LINK_1_1) for each in links]
    if ips:
        new["ips"] = [
            {"version": "6" if ":" in str(ip["address"]) else "4", **ip} for ip in ips
        ] if version in WITH_VERSION else ips  # fmt: skip
    if routes:
        new["routes"] = routes if is_newest else [_without(each, ROUTE_1_1) for each in routes]
    if result.get("dns") or version in WITH_VERSION:
        new["dns"] = result.get("dns", {})
    return new


def _without(value: Json, keys: tuple[str, ...]) -> Json:
    return {key: inner for key, inner in value.items() if key not in keys}
