"""Who comes from elsewhere: an agent that has moved, its copy, or none that could register."""

from ipaddress import IPv4Address

import msgspec
import pytest
from tests.unit.master.lab import Json, Lab

from phalanx.core.error import InvalidError, UnavailableError
from phalanx.master.network.definition import NetworkSpec
from phalanx.mesos.agent_protocol import AgentSubscribe
from phalanx.mesos.v1.codec import from_json


@pytest.mark.parametrize(
    "elsewhere", [{"address": "198.18.0.9"}, {"hostname": "a2"}], ids=["address", "hostname"]
)
async def test_a_copy_of_a_registered_agent_is_refused(lab: Lab, elsewhere: dict[str, str]) -> None:
    agent, _ = await lab.agent()
    words = "Agent attempted to re-register with different IP / hostname"

    if "address" in elsewhere:
        with pytest.raises(UnavailableError, match=r"heard at 198\.18\.0\.2 a moment ago"):
            await lab.refused(id=agent.id, **elsewhere)
        lab.clock.time += 1
        agent.heard = lab.clock.time
    assert await lab.refused(id=agent.id, **elsewhere) == words
    assert agent.is_connected

    lab.clock.time += 80
    await lab.silence(0)
    assert await lab.refused(id=agent.id, **elsewhere) is None  # it may have moved


async def test_an_agent_that_moved_is_taken_once_it_is_silent_and_keeps_its_subnets(
    lab: Lab,
) -> None:
    agent, _ = await lab.agent()
    networks = lab.leader.networks
    old, new = agent.address, IPv4Address("198.18.0.9")
    await networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=[old])
    [before] = networks.leases_of("blue")

    with pytest.raises(UnavailableError, match="a moment ago"):
        await lab.refused(id=agent.id, address=str(new))
    await lab.silence(3)

    assert await lab.refused(id=agent.id, address=str(new)) is None
    assert agent.address == new
    assert networks.leases_of("blue") == [msgspec.structs.replace(before, node=new)]


async def test_an_agent_that_moved_is_no_copy_for_what_a_busy_leader_did_not_hear(
    lab: Lab,
) -> None:
    agent, _ = await lab.agent()
    new = "198.18.0.9"
    lab.clock.time += 1
    with pytest.raises(UnavailableError, match="a moment ago"):
        await lab.refused(id=agent.id, address=new)

    lab.clock.time += 1.5
    lab.leader.observer.excuse(1.5)

    with pytest.raises(UnavailableError, match="a moment ago"):
        await lab.refused(id=agent.id, address=new)
    await lab.silence(3)
    assert await lab.refused(id=agent.id, address=new) is None


async def test_a_copy_is_told_from_an_agent_that_moved_by_a_leader_that_was_busy(lab: Lab) -> None:
    agent, stream = await lab.agent()
    new = "198.18.0.9"
    with pytest.raises(UnavailableError, match="a moment ago"):
        await lab.refused(id=agent.id, address=new)
    lab.clock.time += 1.5
    lab.leader.observer.excuse(1.5)

    lab.clock.time += 1
    lab.leader.observer.hear(stream.id)

    assert "different IP / hostname" in str(await lab.refused(id=agent.id, address=new))


async def test_subnets_of_a_node_with_two_agents_stay_when_one_moves(lab: Lab) -> None:
    agent, _ = await lab.agent()
    other = {"agent_info": {"hostname": "a1", "port": 5052}, "version": "1.11.0"}
    await lab.leader.registration.subscribe(from_json(AgentSubscribe, other), agent.address)
    networks = lab.leader.networks
    old, new = agent.address, IPv4Address("198.18.0.9")
    await networks.create(NetworkSpec("blue", "10.1.0.0/16"), nodes=[old])
    await lab.silence(3)

    assert await lab.refused(id=agent.id, address=str(new)) is None
    assert {str(lease.node): str(lease.subnet) for lease in networks.leases_of("blue")} == {
        str(old): "10.1.0.0/24",
        str(new): "10.1.1.0/24",
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"version": "0.28.2"}, "version: '0.28.2' is older than 1.0.0"),
        ({"version": "new"}, "version: 'new' is no version"),
        (
            {
                "agent_info": {
                    "hostname": "a",
                    "domain": {"fault_domain": {"region": {"name": "r"}, "zone": {"name": "z"}}},
                }
            },
            "fault domain, but the master is not",
        ),
    ],
    ids=["old", "strange", "domain"],
)
async def test_who_cannot_be_an_agent_is_told_why(lab: Lab, more: Json, message: str) -> None:
    body = {"agent_info": {"hostname": "a"}, "version": "1.11.0", **more}

    with pytest.raises(InvalidError, match=message):
        await lab.leader.registration.subscribe(
            from_json(AgentSubscribe, body), IPv4Address("198.18.0.2")
        )
