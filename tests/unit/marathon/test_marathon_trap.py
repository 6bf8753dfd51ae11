"""Each trap that clients of Marathon set (reference marathon §10), by name.

The Python client builds objects from keys and fails over one that it doesn't know; dcos' commands
and load balancers look for some. tests/e2e drives the clients themselves.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.marathon.test_marathon_strict import FULL

from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.definition.render import render_app

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon


def keys(text: str) -> set[str]:
    return set(text.split())


APP_KEYS = keys(
    "acceptedResourceRoles args backoffFactor backoffSeconds cmd constraints container cpus"
    " dependencies deployments disk env executor healthChecks id role instances killSelection"
    " labels lastTaskFailure maxLaunchDelaySeconds mem ports requirePorts storeUrls taskRateLimit"
    " tasks tasksRunning tasksStaged tasksHealthy tasksUnhealthy taskKillGracePeriodSeconds"
    " upgradeStrategy unreachableStrategy uris user version versionInfo ipAddress fetch taskStats"
    " readinessChecks readinessCheckResults secrets portDefinitions residency gpus networks"
)
TASK_KEYS = keys(
    "appId healthCheckResults host id ports servicePorts slaveId stagedAt startedAt version"
    " ipAddresses state localVolumes region zone role"
)
QUEUE_KEYS = keys("app overdue count delay since processedOffersSummary lastUnusedOffers")
DEPLOYMENT_KEYS = keys(
    "affectedApps affectedPods currentActions currentStep id steps totalSteps version"
)
GROUP_KEYS = keys("apps dependencies groups id pods version enforceRole")
INFO_KEYS = keys(
    "name version buildref elected leader frameworkId marathon_config zookeeper_config"
    " http_config event_subscriber"
)
ALL = "embed=apps.tasks&embed=apps.failures&embed=apps.taskStats&embed=apps.readiness"
WEB = {"id": "/web", "cmd": "x", "cpus": 1}


async def running(marathon: Marathon, master: FakeMaster, app: dict[str, Any]) -> None:
    """Create an app and let its one task run, then fail once."""
    status, said = await marathon.ask("POST", "/v2/apps", app)
    assert status == 201, said
    await master.offer("h1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING", healthy=True)
    await marathon.until(
        "/v2/tasks", lambda a: [t["state"] for t in a["tasks"]] == ["TASK_RUNNING"]
    )


async def test_an_app_has_only_keys_that_constructors_know(
    marathon: Marathon, master: FakeMaster
) -> None:
    await running(marathon, master, FULL)

    [app] = (await marathon.ask("GET", f"/v2/apps?{ALL}"))[1]["apps"]

    assert set(app) <= APP_KEYS
    assert set(app["container"]) <= {"docker", "type", "portMappings", "volumes"}
    assert set(app["container"]["volumes"][0]) == {"containerPath", "hostPath", "mode"}
    assert "networkNames" not in app["container"]["portMappings"][0]
    assert set(app["tasks"][0]) <= TASK_KEYS


@pytest.mark.parametrize("key", ["tty", "check", "executorResources", "resourceLimits"])
def test_rare_keys_appear_only_when_they_were_set(key: str) -> None:
    assert key not in render_app(parse_app(WEB))


def test_no_list_of_an_app_is_null() -> None:
    rendered = render_app(parse_app(WEB))

    assert None not in rendered.values()
    assert "null" not in json.dumps(rendered)


def test_seconds_without_a_fraction_are_integers() -> None:
    rendered = json.dumps(render_app(parse_app(FULL)))

    assert '"gracePeriodSeconds": 5,' in rendered
    assert '"backoffFactor": 1.5' in rendered
    assert ".0," not in rendered


@pytest.mark.parametrize("command", [{"value": "true"}])
def test_the_command_of_a_check_is_an_object_with_a_value(command: object) -> None:
    checks = [{"protocol": "COMMAND", "command": command}]

    assert render_app(parse_app({**WEB, "healthChecks": checks}))["healthChecks"][0]["command"] == {
        "value": "true"
    }


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({}, (0, "/")),
        ({"protocol": "MESOS_HTTP", "path": "/x"}, (0, "/x")),
        ({"protocol": "TCP"}, (0, None)),
        ({"protocol": "TCP", "port": 80}, (None, None)),
        ({"protocol": "COMMAND", "command": {"value": "true"}}, (None, None)),
    ],
)
def test_load_balancers_find_the_port_of_a_check_by_its_index(
    check: dict[str, Any], expected: tuple[int | None, str | None]
) -> None:
    [rendered] = render_app(parse_app({**WEB, "healthChecks": [check]}))["healthChecks"]

    assert (rendered.get("portIndex"), rendered.get("path")) == expected


async def test_the_last_failure_has_its_eight_keys(marathon: Marathon, master: FakeMaster) -> None:
    await running(marathon, master, WEB)
    await master.update((await master.tasks(1))[0], "TASK_FAILED", message="why")

    def failure(answer: Any) -> Any:
        return answer["app"].get("lastTaskFailure")

    app = (await marathon.until("/v2/apps/web", failure))["app"]
    assert set(app["lastTaskFailure"]) == {
        *("appId", "host", "message", "state", "taskId", "timestamp", "version", "slaveId"),
    }


async def test_what_waits_has_an_app_and_no_role(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", WEB)

    [item] = (await marathon.until("/v2/queue?embed=lastUnusedOffers", lambda a: a["queue"]))[
        "queue"
    ]

    assert {"app", "lastUnusedOffers"} <= set(item) <= QUEUE_KEYS


async def test_deployments_groups_and_info_have_known_keys(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "id": "/g/web"})

    [deployment] = (await marathon.ask("GET", "/v2/deployments"))[1]
    _, group = await marathon.ask("GET", "/v2/groups")
    _, info = await marathon.ask("GET", "/v2/info")

    assert set(deployment) == DEPLOYMENT_KEYS
    assert (deployment["affectedApps"], deployment["affectedPods"]) == (["/g/web"], [])
    assert set(group) <= GROUP_KEYS - {"enforceRole"}
    assert set(info) <= INFO_KEYS


async def test_a_plan_is_heavy_unless_a_light_one_is_asked_for(marathon: Marathon) -> None:
    accept = {"Accept": "text/event-stream"}
    kind = "?event_type=deployment_info"
    heavy = await marathon.request("GET", f"/v2/events{kind}", headers=accept)
    light = await marathon.request("GET", f"/v2/events{kind}&plan-format=light", headers=accept)
    await marathon.ask("POST", "/v2/apps", WEB)

    plans = []
    for stream in (heavy, light):
        # One event is one line of data, and the line is complete.
        assert await stream.content.readline() == b"event: deployment_info\r\n"
        data = await stream.content.readline()
        assert await stream.content.readline() == b"\r\n"
        plans.append(json.loads(data.removeprefix(b"data: "))["plan"])
        stream.close()
    assert set(plans[0]) - set(plans[1]) == {"original", "target"}
    assert not {"enforceRole"} & {*plans[0]["original"], *plans[0]["target"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/v2/apps/none", None, 404),
        ("POST", "/v2/apps", {"id": "/web", "cmd": "x", "cpus": -1}, 422),
        ("DELETE", "/v2/deployments/none", None, 404),
        ("POST", "/v2/apps", WEB, 409),
    ],
)
async def test_errors_are_json_with_a_message(
    marathon: Marathon, method: str, path: str, body: object, expected: int
) -> None:
    await marathon.ask("POST", "/v2/apps", WEB)

    answer = await marathon.request(method, path, json=body)

    assert (answer.status, answer.content_type) == (expected, "application/json")
    assert "message" in await answer.json()


@pytest.mark.parametrize("path", ["/v2/apps//web", "/v2/apps///web", "/v2/apps/web/"])
async def test_ids_come_with_more_slashes_than_one(marathon: Marathon, path: str) -> None:
    await marathon.ask("POST", "/v2/apps", WEB)

    assert (await marathon.ask("GET", path))[1]["app"]["id"] == "/web"
    assert (await marathon.ask("PUT", f"{path}?force=True", {"cpus": 2}))[0] == 200


async def test_a_group_is_rolled_back_by_putting_to_its_version(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/groups/", {"id": "/g", "apps": [{**WEB, "id": "web"}]})
    [version] = (await marathon.ask("GET", "/v2/groups//g/versions"))[1]
    await marathon.ask("PUT", "/v2/groups/g?force=true", {"apps": []})

    status, _ = await marathon.ask("PUT", f"/v2/groups//g/versions/{version}?force=True", {})

    assert status == 200


@pytest.mark.parametrize(("text", "expected"), [("False", 409), ("True", 200), ("false", 409)])
async def test_flags_come_in_the_spelling_of_python(
    marathon: Marathon, text: str, expected: int
) -> None:
    await marathon.ask("POST", "/v2/apps", WEB)

    assert (await marathon.ask("DELETE", f"/v2/apps/web?force={text}"))[0] == expected


async def test_times_parse_as_the_python_client_parses_them(marathon: Marathon) -> None:
    _, app = await marathon.ask("POST", "/v2/apps", WEB)

    for text in (app["version"], *app["versionInfo"].values()):
        assert datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").year > 2000  # noqa: DTZ007 - as it does


async def test_dcos_gets_ids_and_headers_of_deployments(marathon: Marathon) -> None:
    pod = {"id": "/p", "containers": [{"name": "c", "exec": {"command": {"shell": "x"}}}]}
    created = await marathon.request("POST", "/v2/apps/", json=WEB)
    made = await marathon.request("POST", "/v2/pods/", json=pod)

    assert (await created.json())["deployments"][0]["id"]
    assert made.headers["Marathon-Deployment-Id"]
    assert (await marathon.request("HEAD", "/v2/pods")).status == 200
    assert (await marathon.ask("DELETE", "/v2/queue//web/delay"))[0] == 204


async def test_dcos_lists_apps_by_counts(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", FULL)

    [app] = (await marathon.ask("GET", "/v2/apps/"))[1]["apps"]

    assert {"tasksRunning", "instances", "tasksHealthy", "tasksUnhealthy", "deployments"} <= set(
        app
    )
    assert app["container"]["type"] == "MESOS"


async def test_marathon_lb_finds_tasks_ports_and_health(
    marathon: Marathon, master: FakeMaster
) -> None:
    await running(marathon, master, FULL)

    [app] = (await marathon.ask("GET", "/v2/apps?embed=apps.tasks"))[1]["apps"]

    [task] = app["tasks"]
    assert (task["host"], task["ports"]) == ("h1", [])
    assert task["ipAddresses"] == [{"ipAddress": "9.0.1.2", "protocol": "IPv4"}]
    assert [result["alive"] for result in task["healthCheckResults"]] == [True]
    assert app["container"]["portMappings"][0]["servicePort"] == task["servicePorts"][0] == 10000
    assert app["labels"] == {"HAPROXY_GROUP": "external"}


async def test_an_app_is_deleted_by_force_unless_told_otherwise(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", WEB)

    assert (await marathon.ask("DELETE", "/v2/apps/web"))[0] == 200


async def test_errors_of_many_apps_say_of_which(marathon: Marathon) -> None:
    apps = [WEB, {"id": "/b", "cmd": "x", "cpus": -1}]

    status, said = await marathon.ask("PUT", "/v2/apps", apps)

    assert (status, [problem["path"] for problem in said["details"]]) == (422, ["(1)/cpus"])


VOLUME = {"containerPath": "data", "mode": "RW", "persistent": {"size": 5}}
RESIDENT = {**WEB, "id": "/g/db", "role": "g", "container": {"volumes": [VOLUME]}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (0.5, 0)),
        ({"minimumHealthCapacity": 0.2}, (0.2, 0)),
        ({"maximumOverCapacity": 0}, (0.5, 0)),
        ({"minimumHealthCapacity": None}, (0.5, 0)),
    ],
)
def test_half_an_upgrade_strategy_of_a_resident_app_is_filled_up(
    given: Any, expected: tuple[float, float]
) -> None:
    strategy = parse_app({**RESIDENT, "upgradeStrategy": given}).upgrade_strategy

    assert (strategy.minimum_health_capacity, strategy.maximum_over_capacity) == expected


def test_a_resident_app_takes_reserved_or_unreserved_resources() -> None:
    with pytest.raises(DefinitionError, match="acceptedResourceRoles: must not mix"):
        parse_app({**RESIDENT, "acceptedResourceRoles": ["*", "g"]})


@pytest.mark.parametrize(
    "more",
    [
        {"mem": 256},
        {"requirePorts": True},
        {"networks": [{"mode": "container/bridge"}]},
    ],
)
async def test_what_a_resident_app_has_reserved_does_not_change(
    marathon: Marathon, more: dict[str, Any]
) -> None:
    assert (await marathon.ask("POST", "/v2/apps", {**RESIDENT, "instances": 0}))[0] == 201

    status, said = await marathon.ask("PUT", "/v2/apps/g/db?force=true", more)

    assert (status, "must stay as they are" in said["message"]) == (422, True)


async def test_thousands_of_apps_of_one_request_get_ports_of_their_own(marathon: Marathon) -> None:
    apps = [{"id": f"a{number}", "cmd": "x", "instances": 0} for number in range(2000)]

    status, said = await marathon.ask("PUT", "/v2/groups", {"id": "/g", "apps": apps})

    assert status == 200, said
    ports = {d.port for a in marathon.board.ledger.apps.values() for d in a.port_definitions or ()}
    assert ports == {*range(10000, 12000)}
