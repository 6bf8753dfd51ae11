"""What is done for containers of IPv4 is done for those of IPv6: real packets of both families."""

import socket
from pathlib import Path

import pytest
from tests.netns.cni.host import Host, Json
from tests.netns.cni.test_cni_chain import ask, chain, client, is_shut, listen, ports

from phalanx.core.netns import call_in

GATEWAY, FIRST, SECOND = "fd00:71::1", "fd00:71::2", "fd00:71::3"
NODE, OUTSIDE = "fd00:18::1", "fd00:18::2"
WEB = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
DNS = {"hostPort": 53, "containerPort": 80, "protocol": "udp"}


def test_mapped_port_is_reached_from_everywhere(host: Host) -> None:
    outside, ns, neighbour = client(host), host.netns(), host.netns()
    host.chain("ADD", chain(host, hairpinMode=True, **ports(WEB, DNS)), ns)
    host.chain("ADD", chain(host, hairpinMode=True), neighbour, "c2")
    listen(host, ns, "tcp", "6")
    listen(host, ns, "udp", "6")

    assert ask(host, outside, NODE) == OUTSIDE
    assert ask(host, outside, NODE, 53, "udp") == OUTSIDE
    assert ask(host, host.ns, NODE) != "nothing"
    assert ask(host, neighbour, GATEWAY) != "nothing"
    assert ask(host, ns, GATEWAY) != "nothing"
    assert is_shut(host, outside, NODE, 8081)


def test_loopback_is_refused_at_once_and_left_to_who_listens_there(host: Host) -> None:
    # The kernel takes no answer from a container for ::1: who asks localhost must go on with IPv4.
    ns = host.netns()
    host.chain("ADD", chain(host, **ports(WEB)), ns)
    listen(host, ns)

    def peer() -> socket.socket:
        found = socket.socket(socket.AF_INET6)
        host.closing(found)
        found.settimeout(20)
        return found

    node = Path("/run/netns", host.ns)
    with pytest.raises(ConnectionRefusedError):
        call_in(node, peer).connect(("::1", 8080))
    assert ask(host, host.ns, "127.0.0.1") == "10.71.0.1"
    listener = call_in(node, peer)
    listener.bind(("::1", 8080))
    listener.listen()
    call_in(node, peer).connect(("::1", 8080))
    accepted, address = listener.accept()
    host.closing(accepted)
    assert address[0] == "::1"


def test_masquerade_hides_containers_from_outside(host: Host) -> None:
    outside, ns, neighbour = client(host), host.netns(), host.netns()
    host.chain("ADD", chain(host, ipMasq=True), ns)
    host.chain("ADD", chain(host, ipMasq=True), neighbour, "c2")
    listen(host, outside, "tcp", "6")
    listen(host, neighbour, "tcp", "6")

    assert ask(host, ns, OUTSIDE, 80) == NODE
    assert ask(host, ns, SECOND, 80) == FIRST


@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
def test_ingress_policy(host: Host, policy: str) -> None:
    one, same, other = (host.netns() for _ in range(3))
    here = chain(host, ingressPolicy=policy)
    there: list[Json] = chain(
        host, ingressPolicy=policy, name="othernet", bridge="phxtestb2",
        subnet="10.72.0.0/24", six="fd00:72::/64",
    )  # fmt: skip
    host.chain("ADD", here, one)
    host.chain("ADD", here, same, "c2")
    host.chain("ADD", there, other, "c3")
    listen(host, one, "tcp", "6")

    if policy == "isolated":
        assert is_shut(host, same, FIRST, 80)
    else:
        assert ask(host, same, FIRST, 80) == SECOND
    if policy == "open":
        assert ask(host, other, FIRST, 80) == "fd00:72::2"
    else:
        assert is_shut(host, other, FIRST, 80)
    assert ask(host, host.ns, FIRST, 80) == GATEWAY
