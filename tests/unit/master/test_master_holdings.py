"""What agents hold beside tasks: executors, operations, reserved resources."""

from ipaddress import IPv4Address

from tests.unit.master.lab import ADDRESS, BreakableStore, FakeClock, Json, Lab, events, of

from phalanx.mesos.agent_protocol import AgentSubscribe
from phalanx.mesos.v1.codec import from_json


def executor(framework_id: str, id: str = "e") -> Json:
    return {
        "executor_id": {"value": id},
        "framework_id": {"value": framework_id},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}],
    }


async def register(lab: Lab, id: str | None = None, **more: object) -> tuple[str, list[Json]]:
    info: Json = {
        "hostname": "a1",
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}}],
    }
    if id is not None:
        info["id"] = {"value": id}
    body = {"agent_info": info, "version": "1.11.0", **more}
    agent, stream = await lab.leader.registration.subscribe(
        from_json(AgentSubscribe, body), IPv4Address(ADDRESS)
    )
    assert agent is not None
    return agent.id, events(stream)


async def test_executors_hold_resources_and_go_when_the_agent_does_not_list_them() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    framework, _ = lab.framework()
    id, _ = await register(lab, executors=[executor(framework.id)])
    agent = lab.cluster.agents[id]
    assert agent.used.scalars == {"cpus": 500}

    await register(lab, id)

    assert not agent.executors
    assert not agent.used.scalars


async def test_executors_of_a_framework_that_is_over_are_shut_down() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    framework, _ = lab.framework()
    lab.leader.frameworks.remove(framework, "teardown")
    infos = [{"id": {"value": framework.id}, "user": "root", "name": "marathon"}]

    _, told = await register(lab, executors=[executor(framework.id)], frameworks=infos)

    assert [event["type"] for event in told].count("SHUTDOWN_FRAMEWORK") == 1


async def test_an_agent_is_told_what_changed_of_a_framework() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    framework, _ = lab.framework()
    old = {"id": {"value": framework.id}, "user": "root", "name": "before"}

    _, told = await register(lab, frameworks=[old])

    [update] = [each for each in told if each["type"] == "UPDATE_FRAMEWORK"]
    assert update["update_framework"]["framework_info"]["name"] == "marathon"


async def test_reservations_and_volumes_of_an_agent_come_with_it() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    reserved = {
        "name": "cpus",
        "type": "SCALAR",
        "scalar": {"value": 4},
        "reservations": [{"type": "DYNAMIC", "role": "web"}],
    }

    id, _ = await register(lab, total_resources=[reserved])

    assert lab.cluster.agents[id].total.reserved
    assert not lab.cluster.agents[id].total.unreserved


async def test_an_operation_that_never_reached_its_agent_is_dropped() -> None:
    lab = await Lab.begin(BreakableStore(), FakeClock())
    framework, stream = lab.framework()
    operation = {
        "framework_id": {"value": framework.id},
        "info": {"type": "RESERVE", "id": {"value": "op"}, "reserve": {"resources": []}},
        "latest_status": {"state": "OPERATION_PENDING"},
        "uuid": {"value": "AAAA"},
    }
    id, _ = await register(lab, operations=[operation])
    assert len(lab.cluster.agents[id].operations) == 1
    events(stream)

    await register(lab, id)

    [update] = of("UPDATE_OPERATION_STATUS", stream)
    assert update["status"]["operation_id"] == {"value": "op"}
    assert update["status"]["state"] == "OPERATION_DROPPED"
    assert not lab.cluster.agents[id].operations
