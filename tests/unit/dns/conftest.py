"""A small cluster and its published zones."""

from ipaddress import IPv4Address

import pytest

from phalanx.dns.publish import ZoneTable
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase, TaskPort, VipLease
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")


def _task(name: str, number: int) -> Task:
    return Task(
        framework_id="f",
        id=f"{name}.{number}",
        name=name,
        agent_id="x-S0",
        node=NODE,
        phase=TaskPhase.RUNNING,
        addresses=(IPv4Address("9.0.0.0") + number,),
        networks=("dcos",),
        discovery_name=name,
        ports=(TaskPort(80, "http"),),
    )


@pytest.fixture
def view() -> View:
    """Return a View of one master, one agent, ``web`` with 3 tasks and ``big`` with 100."""
    return View().changed(
        [
            Node(IPv4Address("198.18.0.1"), "m1", is_master=True, is_leader=True, port=5050),
            Node(NODE, "a1", agent_id="x-S0", port=5051),
            Framework("f", "marathon", "m1"),
            *(_task("web", number) for number in range(1, 4)),
            *(_task("big", number) for number in range(101, 201)),
            VipLease("web.marathon", IPv4Address("11.0.0.7")),
        ]
    )


@pytest.fixture
def zones(view: View) -> ZoneTable:
    """Return a table that has published the View."""
    table = ZoneTable(node=NODE, servers=[IPv4Address("198.51.100.1")], serial=100)
    table.publish(view)
    return table


@pytest.fixture
def unpublished() -> ZoneTable:
    """Return a table that has seen no View."""
    return ZoneTable(node=NODE, servers=[IPv4Address("198.51.100.1")])
