"""What a file asks of the networks of a cluster, before anybody does it."""

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from phalanx.cli.check import changed_networks, idle_selectors
from phalanx.core.error import ConflictError, InvalidError
from phalanx.net.model.objects import (
    Network,
    Node,
    Policy,
    SubnetLease,
    Task,
    TaskPhase,
    Traffic,
)
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")
VIEW = View().changed(
    [
        Node(NODE, "a1"),
        *(
            Network(name, IPv4Network(subnet), 24, vni, 1450)
            for name, subnet, vni in (("dcos", "9.0.0.0/8", 1024), ("blue", "10.1.0.0/16", 1025))
        ),
        SubnetLease("blue", NODE, IPv4Network("10.1.0.0/24")),
        Task(
            "f", "web.1", "web", "S1", NODE, TaskPhase.RUNNING,
            addresses=(IPv4Address("9.0.0.2"),), networks=("dcos",),
        ),
    ]
)  # fmt: skip


def test_networks_come_change_and_go() -> None:
    found = changed_networks(
        VIEW,
        [
            {"name": "red", "subnet": "10.2.0.0/16"},
            {"name": "dcos", "mtu": 1400},
            {"name": "blue", "delete": True},
        ],
    )

    assert found.keys() == {"dcos", "red"}
    assert found["dcos"].mtu == 1400


def test_a_network_that_tasks_are_on_stays_and_who_is_named() -> None:
    with pytest.raises(ConflictError, match="network 'dcos' is used by web: 1 in all"):
        changed_networks(VIEW, [{"name": "dcos", "delete": True}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "blue", "prefix": 26}, r"prefix: node 198\.18\.0\.2 is leased"),
        ({"name": "red", "subnet": "9.1.0.0/16"}, r"networks\[0\]: .* overlaps 9.0.0.0/8 of"),
        ({"name": "gone", "delete": True}, r"networks\[0\]: no network 'gone' to delete"),
        ({"name": "red", "subnet": "no"}, r"networks\[0\]: subnet: 'no' is not an IPv4 prefix"),
    ],
)
def test_what_the_registry_would_refuse_is_told(change: dict[str, object], message: str) -> None:
    with pytest.raises((ConflictError, InvalidError), match=message):
        changed_networks(VIEW, [change])


def test_selectors_of_new_policies_that_select_nothing_are_told() -> None:
    labelled = msgspec.structs.replace(VIEW.tasks["f/web.1"], labels=(("role", "web"),))
    before = VIEW.changed([labelled, Policy("old", "role=gone", "any", Traffic.ANY)])
    after = before.changed(
        [
            Policy("one", "role=web", "role=db", Traffic.ANY),
            Policy("two", "role=db", "/prod/store", Traffic.ANY),
            Policy("three", "dcos", "role=web", Traffic.ANY),
        ]
    )

    assert idle_selectors(before, after) == {"role=db": ["one", "two"], "/prod/store": ["two"]}
