"""The files of ``/etc`` that follow from a container's networks (reference mesos §7.6); pure."""

from collections.abc import Iterable

from phalanx.agent.cni.result import Attached, Dns


def render_hosts(networks: Iterable[Attached], hostname: str) -> str:
    """Return ``/etc/hosts``: localhost, and the container's own name at its first addresses."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    first = next((network for network in networks if network.addresses), Attached())
    lines += [f"{address} {hostname}" for address in first.addresses]
    return "\n".join(lines) + "\n"


def render_resolv_conf(networks: Iterable[Attached]) -> str | None:
    """Return ``/etc/resolv.conf`` from the results; None when no network names a server.

    Lists add up in the order of the networks, the last domain wins.
    """
    dns = [network.dns for network in networks if network.dns.nameservers]
    if not dns:
        return None
    merged = Dns(
        nameservers=tuple(dict.fromkeys(item for one in dns for item in one.nameservers)),
        domain=next((one.domain for one in reversed(dns) if one.domain), None),
        search=tuple(dict.fromkeys(item for one in dns for item in one.search)),
        options=tuple(dict.fromkeys(item for one in dns for item in one.options)),
    )
    lines = [f"domain {merged.domain}"] if merged.domain else []
    if merged.search:
        lines.append(f"search {' '.join(merged.search)}")
    if merged.options:
        lines.append(f"options {' '.join(merged.options)}")
    lines += [f"nameserver {server}" for server in merged.nameservers]
    return "\n".join(lines) + "\n"
