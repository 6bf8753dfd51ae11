"""Networks by a CNI plugin, through an agent as a process."""

import json
import os
from pathlib import Path

import pytest
from tests.netns.agent.house import eventually
from tests.netns.agent.lead import Lead
from tests.netns.agent.node import CONFIG, Agent, networked, output, shell

from phalanx.mesos.v1.mesos import (
    TaskState,
)


async def test_a_named_network_is_joined_through_its_plugin(lead: Lead, ready: Agent) -> None:
    ready.add_plugin(CONFIG)
    command = (
        "ip -o address show; cat /etc/resolv.conf /etc/hosts; hostname; cat /etc/hostname;"
        " echo $MESOS_CONTAINER_IP $LIBPROCESS_IP"
    )
    await lead.run_task(networked("Web.Front", command))

    end = await lead.reached("Web.Front", TaskState.TASK_FINISHED)

    text = output(ready, "Web.Front")
    assert "inet 9.9.9.9/32" in text
    assert "inet 127.0.0.1/8" in text
    assert "search example\nnameserver 198.51.100.1\n" in text
    assert "9.9.9.9 web\n" in text
    assert text.endswith("web\nweb\n9.9.9.9 0.0.0.0\n")
    assert end.container_status is not None
    [network] = end.container_status.network_infos
    assert network.name == "dcos"
    assert [address.ip_address for address in network.ip_addresses] == ["9.9.9.9"]
    assert network.port_mappings[0].host_port == 31000
    given = json.loads((ready.calls / "ADD.json").read_text())
    assert given["args"]["org.apache.mesos"]["network_info"]["labels"] == {
        "labels": [{"key": "app", "value": "Web.Front"}]
    }
    assert given["runtimeConfig"]["portMappings"] == [
        {"hostPort": 31000, "containerPort": 80, "protocol": "tcp"}
    ]
    state = ready.runtime / "isolators" / "network" / "cni"
    await eventually(lambda: not list(state.iterdir()))
    add, delete = (ready.calls / "calls").read_text().splitlines()
    assert add.removeprefix("ADD") == delete.removeprefix("DEL")
    assert add.split()[2] == "eth0"


async def test_a_task_without_network_shares_the_agents(lead: Lead, ready: Agent) -> None:
    await lead.run_task(shell("host", "readlink /proc/self/ns/net"))

    end = await lead.reached("host", TaskState.TASK_FINISHED)

    assert output(ready, "host").strip() == os.readlink("/proc/self/ns/net")
    assert end.container_status is not None
    [network] = end.container_status.network_infos
    assert network.name is None
    assert network.ip_addresses[0].ip_address == "127.0.0.1"


async def test_a_plugin_that_refuses_is_quoted_and_asked_to_undo(lead: Lead, ready: Agent) -> None:
    ready.add_plugin(CONFIG)
    (ready.calls / "refuse_add").touch()
    await lead.run_task(networked("unlucky", "true"))

    end = await lead.reached("unlucky", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "no addresses left: pool 9.0.1.0/24" in (end.message or "")
    await eventually(lambda: "DEL" in (ready.calls / "calls").read_text())


async def test_an_unknown_network_is_named(lead: Lead, ready: Agent) -> None:
    await lead.run_task(networked("nowhere", "true"))

    end = await lead.reached("nowhere", TaskState.TASK_FAILED)

    assert "Unknown CNI network 'dcos'" in (end.message or "")


async def test_a_refused_detachment_is_tried_again(lead: Lead, ready: Agent) -> None:
    ready.add_plugin(CONFIG)
    (ready.calls / "refuse_delete").touch()
    await lead.run_task(networked("sticky", "true"))
    await lead.reached("sticky", TaskState.TASK_FINISHED)
    calls = ready.calls / "calls"
    await eventually(lambda: calls.read_text().count("DEL") >= 2)

    (ready.calls / "refuse_delete").unlink()

    state = ready.runtime / "isolators" / "network" / "cni"
    await eventually(lambda: not list(state.iterdir()))


SERVER = "exec python3 -m http.server 80 --bind 127.0.0.1"


QUICK = {"delay_seconds": 0, "interval_seconds": 0.1, "timeout_seconds": 5}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param({"type": "HTTP", "http": {"port": 80, "path": "/"}}, id="http"),
        pytest.param({"type": "TCP", "tcp": {"port": 80}}, id="tcp"),
        pytest.param(
            {"type": "COMMAND", "command": {"value": "grep -q 0050 /proc/net/tcp"}}, id="command"
        ),
    ],
)
async def test_health_is_seen_inside_the_containers_network(
    lead: Lead, ready: Agent, check: dict[str, object]
) -> None:
    ready.add_plugin(CONFIG)
    await lead.run_task(networked("server", SERVER, health_check={**QUICK, **check}))

    await lead.until(lambda: any(status.healthy for status in lead.of("server")))

    healthy = lead.of("server")[-1]
    assert healthy.state == TaskState.TASK_RUNNING
    assert healthy.reason == "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"


async def test_an_unhealthy_task_is_killed(lead: Lead, ready: Agent) -> None:
    check = {**QUICK, "type": "TCP", "tcp": {"port": 9}, "consecutive_failures": 2}
    task = networked("ill", "sleep 600", health_check={**check, "grace_period_seconds": 0})
    ready.add_plugin(CONFIG)
    await lead.run_task(task)

    end = await lead.reached("ill", TaskState.TASK_KILLED)

    assert end.healthy is False
    assert "Health check failed 2 times in a row" in (end.message or "")


async def test_an_agent_lives_in_the_network_of_its_node(agent: Agent, ns: str) -> None:
    node = Path("/run/netns", ns)
    agent.prefix = ("nsenter", f"--net={node}")
    agent.add_plugin(CONFIG)
    show = "stat -L -c %i /proc/self/ns/net"
    async with Lead().serve(node) as lead:
        await agent.start(lead.port)
        await lead.until(lambda: lead.subscribes)
        await lead.run_task(shell("host", show))
        await lead.run_task(networked("own", show))

        await lead.reached("host", TaskState.TASK_FINISHED)
        await lead.reached("own", TaskState.TASK_FINISHED)

    assert int(output(agent, "host")) == node.stat().st_ino
    assert int(output(agent, "own")) != node.stat().st_ino
