"""Networks and policies over real HTTP."""

import json

import pytest
from tests.unit.master.http_lab import Client, FakeAgent, FakeFramework, views


async def test_networks_are_made_shown_used_and_deleted(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    status, text = await client.post("/v1/networks", {"name": "blue", "subnet": "10.1.0.0/16"})
    assert status == 201
    assert json.loads(text) == {
        "name": "blue",
        "subnet": "10.1.0.0/16",
        "prefix": 24,
        "subnet6": None,
        "prefix6": None,
        "vni": 1026,
        "mtu": 1450,
        "isolated": True,
        "leases": [{"node": "198.18.0.2", "subnet": "10.1.0.0/24", "subnet6": None}],
    }
    assert (await client.get("/v1/networks/blue"))[1] == json.loads(text)
    names = [item["name"] for item in (await client.get("/v1/networks"))[1]["networks"]]
    assert names == ["dcos", "dcos6", "blue"]

    framework = FakeFramework(client)
    await framework.subscribe()
    container = {"type": "MESOS", "network_infos": [{"name": "blue"}]}
    await framework.launch("db.1", container=container)
    task = await agent.run()
    status, text = await client.delete("/v1/networks/blue")
    assert status == 409
    assert "task db.1 of marathon" in json.loads(text)["error"]

    await agent.report(task, "TASK_FINISHED")
    assert await client.delete("/v1/networks/blue") == (204, "")
    assert (await client.get("/v1/networks/blue"))[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "blue", "subnet": "9.1.0.0/16"}, 409),
        ({"name": "dcos", "subnet": "10.1.0.0/16"}, 409),
        ({"name": "Blue", "subnet": "10.1.0.0/16"}, 400),
        ({"subnet": "10.1.0.0/16"}, 400),
        ({"name": "blue", "subnet": "10.1.0.0/16", "colour": 1}, 400),
        (b"{", 400),
    ],
    ids=["overlap", "name", "syntax", "nameless", "unknown-field", "no-json"],
)
async def test_bad_network_is_refused_in_json(client: Client, body: object, status: int) -> None:
    found, text = await client.post("/v1/networks", body)

    assert found == status
    assert json.loads(text)["error"]


POLICY = {
    "name": "web-db",
    "tier": "network",
    "action": "allow",
    "direction": "both",
    "source": "dcos",
    "destination": "10.0.0.0/8",
    "protocol": "tcp",
    "ports": "8000-8010",
    "reason": "",
}


async def test_network_changes_while_it_is_used_and_says_why_not(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    await client.post("/v1/networks", {"name": "blue", "subnet": "10.1.0.0/16"})
    framework = FakeFramework(client)
    await framework.subscribe()
    container = {"type": "MESOS", "network_infos": [{"name": "blue"}]}
    await framework.launch("db.1", container=container)
    await agent.run()

    wider = {"mtu": 8900, "isolated": False, "subnet": "10.0.0.0/15", "subnet6": "fd00:7::/64"}
    status, text = await client.patch("/v1/networks/blue", wider)
    assert status == 200
    changed = json.loads(text)
    assert {key: changed[key] for key in wider} == wider
    assert changed["leases"] == [
        {"node": "198.18.0.2", "subnet": "10.1.0.0/24", "subnet6": "fd00:7::/80"}
    ]

    for body, refused, reason in (
        ({"subnet": None}, 409, "task db.1 of marathon"),
        ({"subnet": "10.2.0.0/16"}, 409, "node 198.18.0.2 is leased 10.1.0.0/24"),
        ({"mtu": 7}, 400, "mtu: 7"),
        ({"vni": 7}, 400, "vni"),
    ):
        status, text = await client.patch("/v1/networks/blue", body)
        assert status == refused
        assert reason in json.loads(text)["error"]
    assert (await client.patch("/v1/networks/none", {}))[0] == 404
    assert (await client.get("/v1/networks/blue"))[1] == changed


async def test_overlay_state_has_the_form_of_dcos(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()

    state = (await client.get("/overlay-master/state"))[1]

    assert [overlay["name"] for overlay in state["network"]["overlays"]] == ["dcos", "dcos6"]
    [shown] = state["agents"]
    assert shown["ip"] == "198.18.0.2"
    assert shown["overlays"][0] == {
        "info": {"name": "dcos", "enabled": True, "subnet": "9.0.0.0/8", "prefix": 24},
        "subnet": "9.0.0.0/24",
        "mesos_bridge": {"name": "phx-1024", "ip": "9.0.0.0/24"},
        "docker_bridge": {"name": "phx-1024", "ip": "9.0.0.0/24"},
        "backend": {
            "vxlan": {
                "vni": 1024,
                "vtep_name": "phx-vxlan",
                "vtep_ip": "198.18.0.2/32",
                "vtep_ip6": "fd01:a::c612:2/128",
                "vtep_mtu": 1450,
            }
        },
        "state": {"status": "STATUS_OK"},
    }
    assert shown["overlays"][1]["subnet6"] == "fd01:b::/80"


async def test_policies_are_added_shown_and_removed(client: Client) -> None:
    status, text = await client.post("/v1/policies", POLICY)

    assert (status, json.loads(text)) == (201, POLICY)
    assert (await client.get("/v1/policies"))[1] == {"policies": [POLICY]}
    assert (await client.get("/v1/policies/web-db"))[1] == POLICY
    async with views(client) as seen:
        view = await seen.until(lambda view: bool(view.policies))
        assert view.policies["web-db"].port_ranges == ((8000, 8010),)
    assert await client.delete("/v1/policies/web-db") == (204, "")
    assert (await client.delete("/v1/policies/web-db"))[0] == 404
    assert (await client.get("/v1/policies/web-db"))[0] == 404


async def test_a_policy_is_put_in_the_place_of_another(client: Client) -> None:
    wider = {**POLICY, "ports": "80,8000-8010", "reason": "more"}

    first, _ = await client.put("/v1/policies/web-db", POLICY)
    second, text = await client.put("/v1/policies/web-db", wider)
    other, words = await client.put("/v1/policies/db-web", wider)

    assert (first, second, json.loads(text)) == (201, 200, wider)
    assert (other, words) == (
        400,
        "{\"error\": \"name: 'web-db' is not 'db-web', of the address\"}",
    )


async def test_a_document_takes_the_place_of_all_policies_or_of_one_tiers(client: Client) -> None:
    law = {**POLICY, "name": "law", "tier": "cluster", "action": "deny"}
    await client.post("/v1/policies", {**POLICY, "name": "old"})

    first = await client.put("/v1/policies", {"policies": [POLICY, law]})
    second = await client.put("/v1/policies?tier=network", {"policies": []})
    wrong = await client.put("/v1/policies", {"policies": [law, {**POLICY, "ports": "80x"}]})

    assert json.loads(first[1]) == {"added": ["law", "web-db"], "changed": [], "removed": ["old"]}
    assert json.loads(second[1]) == {"added": [], "changed": [], "removed": ["web-db"]}
    assert wrong[0] == 400
    assert "policies[1].ports: '80x'" in wrong[1]
    assert (await client.get("/v1/policies"))[1] == {"policies": [law]}
