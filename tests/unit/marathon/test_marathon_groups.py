"""Groups over REST: what is in them, what replaces what, versions, and deployments in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon

SLEEP = {"cmd": "sleep 1", "instances": 0}


def app(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, **SLEEP, **more}


SHOP: dict[str, Any] = {
    "id": "/shop",
    "groups": [
        {"id": "data", "apps": [app("db", env={"A": "1"})]},
        {"id": "front", "dependencies": ["../data"], "apps": [app("web"), app("/shop/front/api")]},
    ],
}


async def ids(marathon: Marathon) -> list[str]:
    _, answer = await marathon.ask("GET", "/v2/apps")
    return [found["id"] for found in answer["apps"]]


async def put(marathon: Marathon, path: str, body: object, expected: int = 200) -> Any:
    status, answer = await marathon.ask("PUT", path, body)
    assert status == expected, answer
    return answer


async def test_a_tree_is_created_and_read_back(marathon: Marathon) -> None:
    status, created = await marathon.ask("POST", "/v2/groups", SHOP)
    got, shop = await marathon.ask("GET", "/v2/groups/shop")

    assert status == 201
    assert set(created) == {"version", "deploymentId"}
    assert got == 200
    assert [group["id"] for group in shop["groups"]] == ["/shop/data", "/shop/front"]
    assert [a["id"] for a in shop["groups"][1]["apps"]] == ["/shop/front/api", "/shop/front/web"]
    assert shop["groups"][1]["dependencies"] == ["/shop/data"]
    assert shop["version"] == created["version"]
    assert "enforceRole" not in shop
    _, root = await marathon.ask("GET", "/v2/groups")
    assert root["id"] == "/"
    assert [group["id"] for group in root["groups"]] == ["/shop"]


async def test_location_and_deployment_are_in_the_headers(marathon: Marathon) -> None:
    answer = await marathon.request("POST", "/v2/groups", json={"id": "g"})

    assert answer.status == 201
    assert answer.headers["Location"] == "/v2/groups/g"
    assert answer.headers["Marathon-Deployment-Id"] == (await answer.json())["deploymentId"]


async def test_what_was_created_is_not_created_again(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups", SHOP)
    await marathon.ask("POST", "/v2/apps", app("/one"))

    again = await marathon.ask("POST", "/v2/groups", {"id": "/shop/front"})
    over_app = await marathon.ask("POST", "/v2/groups", {"id": "/one"})
    under_app = await marathon.ask("POST", "/v2/groups", {"id": "/one/two"})
    app_over_group = await marathon.ask("POST", "/v2/apps", app("/shop"))

    message = "Group /shop/front is already created. Use PUT to change this group."
    assert again == (409, {"message": message})
    assert over_app == (409, {"message": "An app with the path /one already exists."})
    assert under_app == (409, {"message": "An app with the path /one already exists."})
    assert app_over_group[0] == 409


async def test_lists_replace_and_absent_keys_keep(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups", SHOP)

    await put(marathon, "/v2/groups/shop", {"apps": [app("cart")]})
    added = await ids(marathon)
    await put(marathon, "/v2/groups/shop", {"groups": [{"id": "front", "apps": [app("web")]}]})

    assert added == ["/shop/cart", "/shop/data/db", "/shop/front/api", "/shop/front/web"]
    assert await ids(marathon) == ["/shop/cart", "/shop/front/web"]
    _, front = await marathon.ask("GET", "/v2/groups/shop/front")
    assert front["dependencies"] == ["/shop/data"]
    assert (await marathon.ask("GET", "/v2/groups/shop/data"))[0] == 404


async def test_a_body_that_was_read_can_be_sent_back(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups", SHOP)
    await marathon.until("/v2/deployments", lambda running: running == [])
    _, before = await marathon.ask("GET", "/v2/groups/shop")

    await put(marathon, "/v2/groups/shop", before)

    assert await marathon.ask("GET", "/v2/deployments") == (200, [])
    assert (await marathon.ask("GET", "/v2/groups/shop"))[1]["groups"] == before["groups"]


async def test_scale_by_rounds_up_and_stays_in_the_group(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups", {"id": "/g", "apps": [app("a", instances=3)]})
    await marathon.ask("POST", "/v2/apps", app("/other", instances=3))

    await marathon.ask("PUT", "/v2/groups/g?force=true", {"scaleBy": 1.5})

    _, answer = await marathon.ask("GET", "/v2/apps")
    assert {a["id"]: a["instances"] for a in answer["apps"]} == {"/g/a": 5, "/other": 3}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param({"scaleBy": 0}, "/scaleBy", id="scale-zero"),
        pytest.param({"scaleBy": -1}, "/scaleBy", id="scale-below"),
        pytest.param({"scaleBy": "2"}, "/scaleBy", id="scale-text"),
        pytest.param({"id": "/elsewhere"}, "/id", id="outside"),
        pytest.param({"id": "UPPER"}, "/id", id="bad-id"),
        pytest.param({"id": 7}, "/id", id="number"),
        pytest.param({"apps": {}}, "/apps", id="apps-no-list"),
        pytest.param({"apps": [7]}, "/apps(0)", id="app-no-object"),
        pytest.param({"apps": [{"cmd": "x"}]}, "/apps(0)/id", id="app-no-id"),
        pytest.param({"apps": [app("/x")]}, "/apps(0)/id", id="app-outside"),
        pytest.param({"apps": [app("x/y")]}, "/apps(0)/id", id="app-deeper"),
        pytest.param({"apps": [app("x", cpus="1")]}, "/apps(0)/cpus", id="app-type"),
        pytest.param({"apps": [app("x"), app("x")]}, "/", id="twice"),
        pytest.param({"groups": [{"id": "h", "apps": [app("h", mem=-1)]}]},
                     "/groups(0)/apps(0)/mem", id="deep"),
        pytest.param({"groups": [{"apps": []}]}, "/groups(0)/id", id="group-no-id"),
        pytest.param({"groups": ["h"]}, "/groups(0)", id="group-no-object"),
        pytest.param({"dependencies": "x"}, "/dependencies", id="dependencies-no-list"),
        pytest.param({"dependencies": [1]}, "/dependencies(0)", id="dependency-number"),
        pytest.param({"enforceRole": "yes"}, "/enforceRole", id="enforce-text"),
        pytest.param({"groups": [{"id": "h", "enforceRole": True}]},
                     "/groups(0)/enforceRole", id="enforce-deep"),
    ],
)  # fmt: skip
async def test_errors_have_the_path_of_what_is_wrong(
    marathon: Marathon, body: object, path: str
) -> None:
    answer = await put(marathon, "/v2/groups/g", body, 422)

    assert path in [detail["path"] for detail in answer["details"]]
    assert all(detail["errors"] for detail in answer["details"])
    assert await ids(marathon) == []


async def test_scale_by_goes_alone(marathon: Marathon) -> None:
    answer = await put(marathon, "/v2/groups/g", {"scaleBy": 2, "apps": []}, 422)

    assert "scaleBy" in answer["message"]


async def test_too_many_instances_by_scaling_are_refused(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", app("/g/a", instances=2))

    answer = await put(marathon, "/v2/groups/g?force=true", {"scaleBy": 1e6}, 422)

    assert answer["details"][0]["path"] == "/g/a/instances"


async def test_a_dry_run_changes_nothing(marathon: Marathon) -> None:
    answer = await put(marathon, "/v2/groups?dryRun=True", SHOP)

    actions = [
        sorted((action["action"], action["app"]) for action in step["actions"])
        for step in answer["steps"]
    ]
    apps = ["/shop/data/db", "/shop/front/api", "/shop/front/web"]
    assert actions == [
        [("StartApplication", name) for name in apps],
        [("ScaleApplication", "/shop/data/db")],
        [("ScaleApplication", name) for name in apps[1:]],
    ]
    assert await ids(marathon) == []
    assert (await marathon.ask("GET", "/v2/groups/shop"))[0] == 404


async def test_circles_of_groups_are_refused(marathon: Marathon) -> None:
    body = {
        "groups": [
            {"id": "a", "dependencies": ["../b"], "apps": [app("x")]},
            {"id": "b", "dependencies": ["../a"], "apps": [app("y")]},
        ]
    }

    answer = await put(marathon, "/v2/groups/g", body, 422)

    assert "cyclic dependencies" in answer["message"]
    assert (await marathon.ask("GET", "/v2/groups/g"))[0] == 404


async def test_apps_wait_for_the_group_that_theirs_depends_on(
    marathon: Marathon, master: FakeMaster
) -> None:
    one = {"cmd": "x", "instances": 1, "cpus": 0.1, "mem": 1}
    body = {
        "groups": [
            {"id": "a", "apps": [{"id": "first", **one}]},
            {"id": "b", "dependencies": ["/g/a"], "apps": [{"id": "second", **one}]},
        ]
    }

    await put(marathon, "/v2/groups/g", body)
    await master.next("REVIVE")
    await master.offer("a1")
    [first] = await master.tasks(1)
    _, [running] = await marathon.ask("GET", "/v2/deployments")
    await master.update(first, "TASK_RUNNING")
    await master.next("REVIVE", seen=1)
    await master.offer("a1")
    tasks = await master.tasks(2)

    assert [task.name for task in tasks] == ["first.a.g", "second.b.g"]
    assert [a["app"] for a in running["currentActions"]] == ["/g/a/first"]
    assert running["totalSteps"] == 3


async def test_versions_are_kept_and_brought_back(marathon: Marathon) -> None:
    group = "/v2/groups/g?force=true"
    first = await put(marathon, group, {"apps": [app("a", env={"V": "1"}), app("b")]})
    await put(marathon, "/v2/groups/other?force=true", {"apps": [app("c")]})
    second = await put(marathon, group, {"apps": [app("a", env={"V": "2"})]})

    status, versions = await marathon.ask("GET", "/v2/groups/g/versions")
    _, of_root = await marathon.ask("GET", "/v2/groups/versions")
    _, former = await marathon.ask("GET", f"/v2/groups/g/versions/{first['version']}")

    assert status == 200
    assert versions == [second["version"], first["version"]]
    assert len(of_root) == 3
    assert [(a["id"], a["env"]) for a in former["apps"]] == [("/g/a", {"V": "1"}), ("/g/b", {})]
    assert former["version"] == first["version"]
    await put(marathon, group, {"version": first["version"]})
    _, now = await marathon.ask("GET", "/v2/groups/g")
    assert [(a["id"], a["env"]) for a in now["apps"]] == [("/g/a", {"V": "1"}), ("/g/b", {})]
    assert await ids(marathon) == ["/g/a", "/g/b", "/other/c"]
    await put(marathon, f"/v2/groups//g/versions/{second['version']}?force=true", {})
    assert await ids(marathon) == ["/g/a", "/other/c"]


@pytest.mark.parametrize("version", ["2001-01-01T00:00:00.000Z", "x"])
async def test_unknown_versions_are_not_found(marathon: Marathon, version: str) -> None:
    await put(marathon, "/v2/groups/g", {})

    status, _ = await marathon.ask("GET", f"/v2/groups/g/versions/{version}")
    answer = await put(marathon, "/v2/groups/g", {"version": version}, 404)

    assert status == 404
    assert "/g" in answer["message"]


async def test_an_empty_group_stays_over_a_restart(start: Any, master: FakeMaster) -> None:
    async with start() as marathon:
        await put(marathon, "/v2/groups/g", {"dependencies": ["/h"], "enforceRole": True})
        assert await marathon.ask("GET", "/v2/deployments") == (200, [])
    async with start() as marathon:
        status, group = await marathon.ask("GET", "/v2/groups/g")
        _, versions = await marathon.ask("GET", "/v2/groups/versions")

    assert status == 200
    assert (group["dependencies"], group["enforceRole"]) == (["/h"], True)
    assert versions == [group["version"]]


async def test_enforcing_a_role_is_patched(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", app("/g/a"))

    status, body = await marathon.ask("PATCH", "/v2/groups/g", {"enforceRole": True})
    _, group = await marathon.ask("GET", "/v2/groups/g")

    assert (status, body) == (200, "")
    assert group["enforceRole"] is True
    assert (await marathon.ask("PATCH", "/v2/groups/none", {"enforceRole": True}))[0] == 404
    assert (await marathon.ask("PATCH", "/v2/groups/g", {"apps": []}))[0] == 422
    assert (await marathon.ask("PATCH", "/v2/groups/g/h", {"enforceRole": True}))[0] == 422


async def test_deleting_takes_everything_below(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups", SHOP)
    await marathon.ask("POST", "/v2/apps", app("/shopping"))

    status, _ = await marathon.ask("DELETE", "/v2/groups/shop")

    assert status == 200
    assert await ids(marathon) == ["/shopping"]
    assert (await marathon.ask("DELETE", "/v2/groups/shop"))[0] == 404
    assert (await marathon.ask("DELETE", "/v2/groups?force=true"))[0] == 200
    assert await ids(marathon) == []


async def test_a_group_of_a_deployment_is_locked(marathon: Marathon) -> None:
    await put(marathon, "/v2/groups/g", {"apps": [app("a", instances=1)]})
    _, [running] = await marathon.ask("GET", "/v2/deployments")

    answer = await put(marathon, "/v2/groups/g", {"apps": [app("a", instances=2)]}, 409)

    assert answer["deployments"] == [{"id": running["id"]}]
    await put(marathon, "/v2/groups/g?force=true", {"apps": [app("a", instances=2)]})


async def test_undoing_a_deployment_undoes_its_groups(marathon: Marathon) -> None:
    made = await put(marathon, "/v2/groups/g", {"apps": [app("a", instances=1)]})

    status, _ = await marathon.ask("DELETE", f"/v2/deployments/{made['deploymentId']}")

    assert status == 200
    assert (await marathon.ask("GET", "/v2/groups/g"))[0] == 404


async def test_only_what_is_embedded_is_shown(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups", SHOP)

    _, groups = await marathon.ask("GET", "/v2/groups/shop?embed=group.groups")
    _, apps = await marathon.ask(
        "GET", "/v2/groups/shop/data?embed=group.apps&embed=group.apps.counts"
    )
    _, listed = await marathon.ask("GET", "/v2/groups/shop/apps")

    assert [group["apps"] for group in groups["groups"]] == [[], []]
    assert apps["apps"][0]["tasksRunning"] == 0
    assert [a["id"] for a in listed["apps"]] == [
        "/shop/data/db",
        "/shop/front/api",
        "/shop/front/web",
    ]


async def test_relative_dependencies_begin_at_the_group(marathon: Marathon) -> None:
    await put(marathon, "/v2/groups/g", {"apps": [app("a"), app("b", dependencies=["a"])]})

    _, answer = await marathon.ask("GET", "/v2/apps/g/b")

    assert answer["app"]["dependencies"] == ["/g/a"]


async def test_depth_has_an_end(marathon: Marathon) -> None:
    body: dict[str, Any] = {"id": "x"}
    for _ in range(60):
        body = {"id": "x", "groups": [body]}

    answer = await put(marathon, "/v2/groups", body, 422)

    assert "deeper" in answer["details"][0]["errors"][0]


async def test_service_ports_of_a_group_are_unique(marathon: Marathon) -> None:
    await put(marathon, "/v2/groups/g", {"apps": [app("a"), app("b"), app("c")]})

    _, answer = await marathon.ask("GET", "/v2/apps")

    ports = [definition["port"] for a in answer["apps"] for definition in a["portDefinitions"]]
    assert sorted(ports) == [10000, 10001, 10002]


async def test_pods_are_shown_kept_by_updates_and_deleted_with_the_group(
    marathon: Marathon,
) -> None:
    container = {"name": "one", "exec": {"command": {"shell": "x"}}, "resources": {"cpus": 0.1}}
    pod = {"id": "/g/sub/pod", "containers": [container], "scaling": {"instances": 0}}
    status, answer = await marathon.ask("POST", "/v2/pods", pod)
    assert status == 201, answer
    await put(marathon, "/v2/groups/g?force=true", {"apps": [app("a")], "groups": []})

    _, group = await marathon.ask("GET", "/v2/groups/g")
    deleted, _ = await marathon.ask("DELETE", "/v2/groups/g?force=true")
    _, pods = await marathon.ask("GET", "/v2/pods")

    assert [found["id"] for found in group["groups"][0]["pods"]] == ["/g/sub/pod"]
    assert deleted == 200
    assert pods == []
    assert (await marathon.ask("GET", "/v2/groups/g"))[0] == 404


async def test_a_group_that_insists_gives_new_apps_its_role(marathon: Marathon) -> None:
    await put(marathon, "/v2/groups/g", {"apps": [app("old")]})
    await marathon.ask("PATCH", "/v2/groups/g", {"enforceRole": True})
    await marathon.ask("POST", "/v2/apps", app("/g/sub/new"))
    await marathon.ask("POST", "/v2/apps", app("/other/new"))

    _, answer = await marathon.ask("GET", "/v2/apps")

    roles = {found["id"]: found["role"] for found in answer["apps"]}
    assert roles == {"/g/old": "*", "/g/sub/new": "g", "/other/new": "*"}
