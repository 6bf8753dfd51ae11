"""``/overlay-agent/overlay`` has DC/OS' form and says whether the node really has what it says."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.api.node import Status
from phalanx.plane.api.overlay import node_overlays

ME, OTHER = IPv4Address("198.18.0.101"), IPv4Address("198.18.0.102")
PREFIX, PREFIX6 = IPv4Network("9.0.0.0/8"), IPv6Network("fd01:b::/64")
VIEW = View().changed(
    [
        Network("dcos", PREFIX, 24, 1024, 1450, subnet6=PREFIX6, prefix6=80),
        Network("red", IPv4Network("10.140.0.0/16"), 24, 1025, 1400),
        SubnetLease("dcos", ME, IPv4Network("9.0.1.0/24"), IPv6Network("fd01:b:0:0:1::/80")),
        SubnetLease("dcos", OTHER, IPv4Network("9.0.2.0/24")),
        SubnetLease("gone", ME, IPv4Network("10.9.1.0/24")),
    ]
)


def status(*, applied: int = 7, routes: bool = True) -> Status:
    return Status(str(ME), True, "e", 7, applied, {"links": True, "routes": routes})


def test_a_node_shows_what_it_is_leased() -> None:
    found = node_overlays(VIEW, status(), node=ME)

    bridge = {"name": "phx-1024", "ip": "9.0.1.0/24", "ip6": "fd01:b:0:0:1::/80"}
    assert (found["ip"], found["configuration_attempts"]) == ("198.18.0.101", 1)
    assert found["overlays"] == [
        {
            "info": {
                "name": "dcos",
                "enabled": True,
                "subnet": "9.0.0.0/8",
                "prefix": 24,
                "subnet6": "fd01:b::/64",
                "prefix6": 80,
            },
            "subnet": "9.0.1.0/24",
            "subnet6": "fd01:b:0:0:1::/80",
            "mesos_bridge": bridge,
            "docker_bridge": bridge,
            "backend": {
                "vxlan": {
                    "vni": 1024,
                    "vtep_name": "phx-vxlan",
                    "vtep_ip": "198.18.0.101/32",
                    "vtep_ip6": "fd01:a::c612:65/128",
                    "vtep_mtu": 1450,
                }
            },
            "state": {"status": "STATUS_OK"},
        }
    ]


@pytest.mark.parametrize(
    ("now", "state"),
    [
        pytest.param(status(applied=6), {"status": "STATUS_CONFIGURING"}, id="under-way"),
        pytest.param(
            status(routes=False),
            {"status": "STATUS_FAILED", "error": "not as desired: routes"},
            id="refused",
        ),
    ],
)
def test_what_the_kernel_does_not_hold_is_not_ok(now: Status, state: dict[str, str]) -> None:
    [overlay] = node_overlays(VIEW, now, node=ME)["overlays"]

    assert overlay["state"] == state


def test_a_node_without_a_lease_has_none() -> None:
    assert node_overlays(View(), status(), node=ME)["overlays"] == []
