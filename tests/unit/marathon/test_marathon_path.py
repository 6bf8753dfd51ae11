"""Every path of the REST API, row by row: its parameters, its status, what is in its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon

OLD = "2000-01-01T00:00:00.000Z"
APP: dict[str, Any] = {"id": "/g/app", "cmd": "serve", "labels": {"team": "a"}, "instances": 0}
CONTAINER = {"name": "one", "exec": {"command": {"shell": "x"}}}
POD: dict[str, Any] = {"id": "/g/pod", "containers": [CONTAINER], "scaling": {"instances": 0}}
DEPLOYED = {"version", "deploymentId"}


async def populated(marathon: Marathon) -> None:
    """Define an app and a pod in one group."""
    for path, body in (("/v2/apps", APP), ("/v2/pods", POD)):
        status, answer = await marathon.ask("POST", path, body)
        assert status == 201, answer
    await marathon.until("/v2/deployments", lambda running: running == [])


# method, path, body, status, the keys of the answer (a tuple: a list's; text: what is in it).
ROWS: list[tuple[str, str, object, int, object]] = [
    ("GET", "/v2/apps", None, 200, {"apps"}),
    ("GET", "/v2/apps?id=APP&cmd=ERV&label=team==a&embed=apps.tasks&embed=apps.counts", None, 200,
     "/g/app"),
    ("GET", "/v2/apps?label=team%20in%20(a,b)", None, 200, "/g/app"),
    ("GET", "/v2/apps?label=team%20notin%20(b),!x", None, 400, "is not a label selector"),
    ("POST", "/v2/apps", {"id": "/n", "cmd": "x"}, 201, '"tasks":[]'),
    ("POST", "/v2/apps?force=true", {"id": "/n", "cmd": "x"}, 201, '"deployments":[{"id":'),
    ("POST", "/v2/apps", APP, 409, "An app with id [/g/app] already exists."),
    ("POST", "/v2/apps", {"id": "/g", "cmd": "x"}, 409, "Group /g is already created. Use PUT"),
    ("POST", "/v2/apps", {"id": "/g/app/x", "cmd": "x"}, 409,
     "An app with the path /g/app already exists."),
    ("POST", "/v2/apps", {"id": "/g/pod", "cmd": "x"}, 409, "already exists"),
    ("POST", "/v2/apps", {"cmd": "x"}, 422, '"path":"/id"'),
    ("POST", "/v2/apps", {"id": "/n", "cmd": "x", "dependencies": ["/n"]}, 422,
     "Dependency graph has cyclic dependencies"),
    ("PUT", "/v2/apps", [{"id": "/n", "cmd": "x"}, {"id": "/g/app", "mem": 1}], 200, DEPLOYED),
    ("PUT", "/v2/apps?partialUpdate=false", [{"id": "/g/app", "mem": 1}], 422, "(0)"),
    ("PUT", "/v2/apps", {"id": "/n"}, 422, "error.expected.jsarray"),
    ("PATCH", "/v2/apps", [{"id": "/g/app", "mem": 1}], 200, DEPLOYED),
    ("PATCH", "/v2/apps", [{"id": "/n", "cmd": "x"}], 404, "App '/n' does not exist"),
    ("GET", "/v2/apps/g/app", None, 200, {"app"}),
    ("GET", "/v2/apps//g/app/", None, 200, {"app"}),
    ("GET", "/v2/apps/g/app?embed=app.taskStats", None, 200, '"taskStats"'),
    ("GET", "/v2/apps/*", None, 200, {"*"}),
    ("GET", "/v2/apps/g/*", None, 200, {"*"}),
    ("GET", "/v2/apps/none", None, 404, "App '/none' does not exist"),
    ("PUT", "/v2/apps/n", {"cmd": "x"}, 201, DEPLOYED),
    ("PUT", "/v2/apps/g/app?force=True&partialUpdate=False", APP, 200, DEPLOYED),
    ("PUT", "/v2/apps/g/app", {"args": ["x"]}, 422, "must either contain one of"),
    ("PUT", "/v2/apps/g/app", {"version": OLD}, 404,
     f"App '/g/app' does not exist in version {OLD}"),
    ("PUT", "/v2/apps/g/app", {"version": OLD, "mem": 1}, 422,
     "The 'version' field may only be combined with the 'id' field."),
    ("PATCH", "/v2/apps/g/app", {"mem": 1}, 200, DEPLOYED),
    ("PATCH", "/v2/apps/none", {"mem": 1}, 404, "App '/none' does not exist"),
    ("DELETE", "/v2/apps/g/app", None, 200, DEPLOYED),
    ("DELETE", "/v2/apps/g/app?force=false", None, 200, DEPLOYED),
    ("DELETE", "/v2/apps/none", None, 404, "App '/none' does not exist"),
    ("POST", "/v2/apps/g/app/restart?force=false", None, 200, DEPLOYED),
    ("POST", "/v2/apps/none/restart", None, 404, "App '/none' does not exist"),
    ("GET", "/v2/apps/g/app/tasks", None, 200, {"tasks"}),
    ("GET", "/v2/apps/g/*/tasks", None, 200, {"tasks"}),
    ("GET", "/v2/apps/none/tasks", None, 404, "App '/none' does not exist"),
    ("DELETE", "/v2/apps/g/app/tasks?host=*", None, 200, {"tasks"}),
    ("DELETE", "/v2/apps/g/app/tasks?scale=true", None, 200, DEPLOYED),
    ("DELETE", "/v2/apps/g/app/tasks?scale=true&wipe=true", None, 400,
     "You cannot use scale and wipe at the same time."),
    ("DELETE", "/v2/apps/g/app/tasks/none", None, 404, "Task 'none' does not exist"),
    ("GET", "/v2/apps/g/app/versions", None, 200, {"versions"}),
    ("GET", "/v2/apps/none/versions", None, 404, "App '/none' does not exist"),
    ("GET", f"/v2/apps/g/app/versions/{OLD}", None, 404,
     f"App '/g/app' does not exist in version {OLD}"),
    ("GET", "/v2/tasks?status=running&status[]=staging", None, 200, {"tasks"}),
    ("POST", "/v2/tasks/delete", {"ids": ["g_app.instance-1._app.1"]}, 200, {"tasks"}),
    ("POST", "/v2/tasks/delete?scale=true", {"ids": []}, 200, DEPLOYED),
    ("POST", "/v2/tasks/delete", {"ids": ["x"]}, 400, "Invalid task id 'x'"),
    ("POST", "/v2/tasks/delete?scale=true&wipe=true", {"ids": []}, 400,
     "You cannot use scale and wipe at the same time."),
    ("GET", "/v2/groups", None, 200, "/g/pod"),
    ("GET", "/v2/groups?embed=group.groups&embed=group.apps", None, 200, "/g/app"),
    ("GET", "/v2/groups//g", None, 200, '"id":"/g"'),
    ("GET", "/v2/groups/none", None, 404, "Group '/none' does not exist"),
    ("GET", "/v2/groups/g/apps", None, 200, {"apps"}),
    ("GET", "/v2/groups/versions", None, 200, "[\""),
    ("GET", "/v2/groups/g/versions", None, 200, "[\""),
    ("GET", f"/v2/groups/g/versions/{OLD}", None, 404, "Group '/g' does not exist"),
    ("POST", "/v2/groups", {"id": "/h", "apps": []}, 201, DEPLOYED),
    ("POST", "/v2/groups/h", {"apps": [{"id": "x", "cmd": "x"}]}, 201, DEPLOYED),
    ("POST", "/v2/groups", {"id": "/g"}, 409,
     "Group /g is already created. Use PUT to change this group."),
    ("POST", "/v2/groups", {"id": "/g/app"}, 409, "An app with the path /g/app already exists."),
    ("PUT", "/v2/groups", {"id": "/", "apps": []}, 200, DEPLOYED),
    ("PUT", "/v2/groups/g?force=true", {"apps": []}, 200, DEPLOYED),
    ("PUT", "/v2/groups/g?dryRun=true", {"apps": []}, 200, {"steps"}),
    ("PUT", "/v2/groups/g", {"scaleBy": 2}, 200, DEPLOYED),
    ("PUT", "/v2/groups/g", {"version": OLD}, 404, "does not exist"),
    ("PUT", "/v2/groups/g", {"apps": [{"id": "/x/y", "cmd": "x"}]}, 422,
     "Identifier is not child of '/g'."),
    ("PATCH", "/v2/groups/g", {"enforceRole": True}, 200, ""),
    ("PATCH", "/v2/groups/none", {"enforceRole": True}, 404, "Group '/none' does not exist"),
    ("DELETE", "/v2/groups/g?force=false", None, 200, DEPLOYED),
    ("DELETE", "/v2/groups", None, 200, DEPLOYED),
    ("DELETE", "/v2/groups/none", None, 404, "Group '/none' does not exist"),
    ("HEAD", "/v2/pods", None, 200, ""),
    ("GET", "/v2/pods", None, 200, ({"id", "containers", "scaling", "version"},)),
    ("POST", "/v2/pods", {**POD, "id": "/p"}, 201, '"id":"/p"'),
    ("POST", "/v2/pods", POD, 409, "A pod with id [/g/pod] already exists."),
    ("POST", "/v2/pods", {**POD, "id": "/g/app"}, 409, "already exists"),
    ("POST", "/v2/pods", {"id": "/p"}, 422, '"path":"/containers"'),
    ("GET", "/v2/pods/g/pod", None, 200, '"id":"/g/pod"'),
    ("GET", "/v2/pods//g/pod", None, 200, '"id":"/g/pod"'),
    ("GET", "/v2/pods/none", None, 404, "Pod '/none' does not exist"),
    ("PUT", "/v2/pods/g/pod?force=true", POD, 200, '"id":"/g/pod"'),
    ("PUT", "/v2/pods/g/pod", {**POD, "id": "/other"}, 400, "'/g/pod' definition attempted as"),
    ("DELETE", "/v2/pods/g/pod", None, 202, ""),
    ("DELETE", "/v2/pods/none", None, 404, "Pod '/none' does not exist"),
    ("GET", "/v2/pods/::status", None, 200, ({"id", "spec", "status", "instances"},)),
    ("GET", "/v2/pods/%3A%3Astatus", None, 200, ({"id", "spec", "status", "instances"},)),
    ("GET", "/v2/pods/g/pod::status", None, 200, '"terminationHistory"'),
    ("GET", "/v2/pods//g/pod%3A%3Astatus", None, 200, '"terminationHistory"'),
    ("GET", "/v2/pods/none::status", None, 404, "Pod '/none' does not exist"),
    ("GET", "/v2/pods/g/pod::versions", None, 200, "[\""),
    ("GET", f"/v2/pods/g/pod::versions/{OLD}", None, 404, "does not exist"),
    ("DELETE", "/v2/pods/g/pod::instances/none", None, 404, "does not exist"),
    ("DELETE", "/v2/pods/g/pod::instances?wipe=true", ["none"], 200, "[]"),
    ("GET", "/v2/deployments", None, 200, "[]"),
    ("DELETE", "/v2/deployments/none", None, 404, "DeploymentPlan none does not exist"),
    ("DELETE", "/v2/deployments/none?force=true", None, 404, "DeploymentPlan none does not exist"),
    ("GET", "/v2/queue?embed=lastUnusedOffers", None, 200, {"queue"}),
    ("DELETE", "/v2/queue/none/delay", None, 404,
     "Application /none not found in tasks queue."),
    ("GET", "/v2/info", None, 200,
     {"name", "version", "buildref", "elected", "leader", "frameworkId", "marathon_config",
      "zookeeper_config", "http_config"}),
    ("GET", "/v2/leader", None, 200, {"leader"}),
    ("DELETE", "/v2/leader", None, 200, {"message"}),
    ("GET", "/ping", None, 200, "pong"),
    ("GET", "/metrics", None, 200,
     {"version", "counters", "gauges", "histograms", "meters", "timers"}),
    ("GET", "/metrics/prometheus", None, 200, "marathon_"),
    ("GET", "/logging", None, 200, {"ROOT"}),
    ("POST", "/logging", {"logger": "ROOT", "level": "INFO"}, 200, {"logger", "level"}),
    ("GET", "/config", None, 200, "mesos_role"),
    ("GET", "/v2/plugins", None, 200, {"plugins"}),
    ("GET", "/v2/plugins/x/y", None, 404, "URI not found"),
    ("GET", "/v2/events", None, 405, "Method Not Allowed"),
    ("GET", "/help", None, 200, "/v2/apps"),
    ("GET", "/v1/apps", None, 404, "URI not found"),
    ("GET", "/v2/eventSubscriptions", None, 404, "URI not found"),
    ("GET", "/v2/artifacts", None, 404, "URI not found"),
    ("GET", "/v2/schemas/app", None, 404, "URI not found"),
    ("POST", "/v2/deployments", {}, 405, "Method Not Allowed"),
]  # fmt: skip
ROW_IDS = [f"{method}-{path}-{status}" for method, path, _, status, _ in ROWS]


@pytest.mark.parametrize(("method", "path", "body", "status", "told"), ROWS, ids=ROW_IDS)
async def test_path(
    marathon: Marathon, method: str, path: str, body: object, status: int, told: object
) -> None:
    await populated(marathon)

    response = await marathon.request(method, path, json=body)

    text = await response.text()
    assert response.status == status, text
    if isinstance(told, str):
        assert told in text
    elif isinstance(told, tuple):
        assert all(told[0] <= one.keys() for one in await response.json())
        assert await response.json()
    else:
        assert (await response.json()).keys() == told
    if told == DEPLOYED:
        header = response.headers["Marathon-Deployment-Id"]
        assert header == (await response.json())["deploymentId"]
    if status == 201:
        assert response.headers["Location"].endswith(("/n", "/h", "/p"))
        assert response.headers["Marathon-Deployment-Id"]


async def test_what_waits_can_be_told_to_wait_no_longer(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", {"id": "/w", "cmd": "x", "backoffSeconds": 100})
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_FAILED")
    [entry] = (await marathon.until("/v2/queue", lambda answer: answer["queue"]))["queue"]

    answer = await marathon.ask("DELETE", "/v2/queue//w/delay")

    assert entry["delay"]["overdue"] is False
    assert 90 < entry["delay"]["timeLeftSeconds"] <= 115
    assert answer == (204, "")
    await marathon.until("/v2/queue", lambda a: a["queue"][0]["delay"]["overdue"] is True)
