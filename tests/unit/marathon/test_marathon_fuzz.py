"""Every endpoint against nonsense: an answer in time, never a 500, and a message in every error."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.marathon.conftest import FakeMaster, running_marathon

SECONDS = 60.0

# Every field of an app somewhere, so that each can be made wrong in turn.
WHOLE: dict[str, Any] = {
    "id": "/fuzz/app", "cmd": "x", "args": [], "user": "nobody", "instances": 1, "cpus": 0.1,
    "mem": 1, "disk": 0, "gpus": 0, "executor": "", "env": {"A": "1", "B": {"secret": "s"}},
    "secrets": {"s": {"source": "/x"}}, "labels": {"a": "b"}, "role": "*",
    "acceptedResourceRoles": ["*"], "constraints": [["hostname", "LIKE", ".*"]],
    "fetch": [{"uri": "http://x/a.tgz", "extract": True, "executable": False, "cache": False,
               "destPath": "a"}],
    "dependencies": ["/other"], "requirePorts": False, "tty": False,
    "resourceLimits": {"cpus": 1, "mem": "unlimited"},
    "networks": [{"mode": "container", "name": "dcos", "labels": {"a": "b"}}],
    "container": {
        "type": "MESOS", "docker": {"image": "i", "forcePullImage": False, "privileged": False,
                                    "parameters": [], "pullConfig": None},
        "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 0, "protocol": "tcp",
                          "name": "http", "labels": {"VIP_0": "/w:80"}, "networkNames": ["dcos"]}],
        "volumes": [{"containerPath": "/a", "hostPath": "/b", "mode": "RO"},
                    {"containerPath": "/s", "secret": "s"}],
        "linuxInfo": {"seccomp": {"unconfined": True}, "ipcInfo": {"mode": "PRIVATE"}},
    },
    "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0, "gracePeriodSeconds": 1,
                      "intervalSeconds": 1, "timeoutSeconds": 1, "maxConsecutiveFailures": 1,
                      "delaySeconds": 1, "ignoreHttp1xx": False, "ipProtocol": "IPv4"}],
    "readinessChecks": [], "check": {"exec": {"command": {"shell": "x"}}, "intervalSeconds": 1},
    "backoffSeconds": 1, "backoffFactor": 1.5, "maxLaunchDelaySeconds": 5,
    "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
    "killSelection": "YOUNGEST_FIRST",
    "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
    "taskKillGracePeriodSeconds": 1,
}  # fmt: skip
OLD: dict[str, Any] = {
    "id": "/fuzz/old", "cmd": "x", "instances": 1, "ports": [0, 1], "uris": ["http://x/a.zip"],
    "storeUrls": [], "residency": {"taskLostBehavior": "WAIT_FOREVER"},
    "container": {"docker": {"image": "i", "network": "BRIDGE",
                             "portMappings": [{"containerPort": 0}]}},
    "ipAddress": {"networkName": "dcos", "labels": {}, "groups": [],
                  "discovery": {"ports": [{"number": 80, "name": "x", "protocol": "tcp"}]}},
}  # fmt: skip
PARTS = sorted((WHOLE.keys() | OLD.keys()) - {"id"})
GROUP: dict[str, Any] = {
    "id": "/fuzz", "dependencies": ["/other"], "enforceRole": False,
    "apps": [{"id": "one", "cmd": "x", "instances": 0}],
    "groups": [{"id": "deep", "apps": [], "groups": []}],
}  # fmt: skip
POD: dict[str, Any] = {
    "id": "/fuzz/pod", "labels": {"a": "b"}, "user": "x", "environment": {"A": "1"},
    "containers": [{"name": "one", "exec": {"command": {"shell": "x"}},
                    "resources": {"cpus": 0.1, "mem": 1, "disk": 0, "gpus": 0},
                    "endpoints": [{"name": "http", "containerPort": 80, "hostPort": 0,
                                   "protocol": ["tcp"], "labels": {}}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}], "artifacts": []}],
    "volumes": [{"name": "v"}], "networks": [{"mode": "container", "name": "dcos"}],
    "scaling": {"kind": "fixed", "instances": 1},
    "scheduling": {"backoff": {"backoff": 1}, "placement": {"constraints": []}},
}  # fmt: skip

READ = ("GET", "HEAD", "OPTIONS")
WRITE = ("POST", "PUT", "PATCH", "DELETE")
PATHS = (
    "/v2/apps", "/v2/apps/{id}", "/v2/apps/{id}/restart", "/v2/apps/{id}/tasks",
    "/v2/apps/{id}/tasks/{id}", "/v2/apps/{id}/versions", "/v2/apps/{id}/versions/{id}",
    "/v2/tasks", "/v2/tasks/delete", "/v2/groups", "/v2/groups/{id}", "/v2/groups/{id}/apps",
    "/v2/groups/{id}/versions", "/v2/groups/{id}/versions/{id}", "/v2/groups/versions",
    "/v2/deployments", "/v2/deployments/{id}", "/v2/queue", "/v2/queue/{id}/delay", "/v2/info",
    "/v2/leader", "/v2/plugins", "/v2/plugins/{id}/{id}", "/v2/pods", "/v2/pods/{id}",
    "/v2/pods/::status", "/v2/pods/{id}::status", "/v2/pods/{id}::versions",
    "/v2/pods/{id}::versions/{id}", "/v2/pods/{id}::instances", "/v2/pods/{id}::instances/{id}",
    "/v2/events", "/metrics", "/metrics/prometheus", "/logging", "/config", "/ping", "/{id}",
)  # fmt: skip
QUERIES = ("force", "scale", "wipe", "dryRun", "partialUpdate", "embed", "label", "id", "cmd",
           "host", "status", "status[]", "event_type", "containerNetworks", "backup",
           "restore")  # fmt: skip
JSON, TEXT = "application/json", "text/plain"

leaves = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.integers(-2, 5) | st.floats()
    | st.text(max_size=8) | st.sampled_from(["*", "/", "..", "a/b", "1.5", "\x00", "%s", "\ud7ff"])
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(["id", "version", "scaleBy"]), inner,
                      max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.sampled_from(
    ["fuzz", "fuzz/app", "none", "a b", "A", "*", "/", "%", "..", "é"]
) | st.text(min_size=1, max_size=6)
uris = st.lists(
    st.sampled_from(
        ["file:", "http:", "/", "//", "[", "]", ":", "%", "%00", "\x00", "..", "a", "é"]
    ),
    max_size=6,
).map("".join)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where every value of a JSON document is."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*at, index))


def changed(whole: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return *whole* with the value at *place* replaced."""
    if not place:
        return value
    key, *rest = place
    copy = dict(whole) if isinstance(whole, dict) else list(whole)
    copy[key] = changed(whole[key], tuple(rest), value)
    return copy


class Server:
    """A Marathon in a thread of its own, and requests to it over sockets."""

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(SECONDS)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._master = master = FakeMaster()
        await master.start()
        try:
            async with running_marathon(master, self._work_dir) as marathon:
                self._marathon = marathon
                await master.subscribed()
                self.address = urlsplit(marathon.url).netloc
                self._ready.set()
                await self._over.wait()
        finally:
            await master.stop()

    def run(self, app: dict[str, Any]) -> None:
        """Let the first task of the first app run; return once it is known to."""
        asyncio.run_coroutine_threadsafe(self._run(app), self._loop).result(SECONDS)

    async def _run(self, app: dict[str, Any]) -> None:
        await self._marathon.ask("POST", "/v2/apps", app)
        await self._master.next("REVIVE")
        await self._master.offer("a1")
        [task] = await self._master.tasks(1)
        await self._master.update(task, "TASK_RUNNING")
        await self._marathon.until(
            f"/v2/apps{app['id']}", lambda answer: answer["app"]["tasksRunning"] == 1
        )

    def ask(
        self, method: str, target: str, body: bytes | None, accept: str
    ) -> tuple[int, str, bytes]:
        """Make one request on a connection of its own; return status, type and body."""
        wire = http.client.HTTPConnection(self.address, timeout=SECONDS)
        try:
            wire.request(method, target, body, {"Content-Type": JSON, "Accept": accept})
            answer = wire.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        finally:
            wire.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server that all examples share, as clients of one do."""
    with Server(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.fixture(scope="module")
def upgrading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server whose one task runs on, since no offer comes for what would replace it."""
    with Server(tmp_path_factory.mktemp("upgrading")) as running:
        running.run({"id": "/served", "cmd": "x", **definition("container", 1)})
        yield running


def definition(mode: str, ports: int) -> dict[str, Any]:
    """Return the networks and so many ports of an app."""
    if mode == "host":
        return {"networks": [{"mode": mode}], "portDefinitions": [{"port": 0}] * ports}
    mappings = [{"containerPort": 80 + index} for index in range(ports)]
    name = {"name": "dcos"} if mode == "container" else {}
    return {"networks": [{"mode": mode, **name}], "container": {"portMappings": mappings}}


def check(server: Server, method: str, target: str, body: bytes | None, accept: str = JSON) -> int:
    """Make a request; fail unless it is answered as it should be; return the status."""
    status, kind, raw = server.ask(method, target, body, accept)

    assert status < 500, raw
    if status >= 400 and method != "HEAD":
        assert kind == "application/json", raw
        assert json.loads(raw)["message"]
    if status == 422:
        for detail in json.loads(raw).get("details", ()):
            assert detail["path"] or detail["path"] == ""
            assert all(isinstance(error, str) and error for error in detail["errors"])
    return status


usual = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@usual
@given(data=st.data())
def test_every_endpoint_answers_nonsense(server: Server, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from((*READ, *WRITE)))
    path = data.draw(st.sampled_from(PATHS))
    while "{id}" in path:
        path = path.replace("{id}", quote(data.draw(names)), 1)
    pairs = data.draw(
        st.dictionaries(st.sampled_from(QUERIES), st.text(max_size=6) | st.just("true"), max_size=2)
    )
    query = "&".join(f"{quote(key)}={quote(value)}" for key, value in pairs.items())
    body = data.draw(values) if method in WRITE else None

    accept = data.draw(st.sampled_from((JSON, TEXT, "*/*")))

    raw = None if body is None else json.dumps(body).encode()
    check(server, method, f"{path}?{query}", raw, accept)


@usual
@given(query=st.sampled_from(("backup", "restore")), uri=uris)
def test_an_archive_may_be_asked_for_by_any_name(server: Server, query: str, uri: str) -> None:
    check(server, "DELETE", f"/v2/leader?{query}={quote(uri, safe='')}", None)


@usual
@given(
    mode=st.sampled_from(("host", "container", "container/bridge")),
    ports=st.integers(0, 3),
    networks=st.sampled_from(("", "dcos", "other", "other,dcos")),
)
def test_tasks_older_than_their_definition_are_listed(
    upgrading: Server, mode: str, ports: int, networks: str
) -> None:
    changed = json.dumps(definition(mode, ports)).encode()
    assert check(upgrading, "PUT", "/v2/apps/served?force=true", changed) == 200

    for path in ("/v2/tasks", "/v2/apps/served/tasks"):
        for accept in (JSON, TEXT):
            target = f"{path}?containerNetworks={networks}"
            assert check(upgrading, "GET", target, None, accept) == 200


BODIES = pytest.mark.parametrize(
    ("method", "path", "whole"),
    [
        pytest.param("PUT", "/v2/apps/fuzz/app?force=true", WHOLE, id="app"),
        pytest.param("POST", "/v2/apps?force=true", WHOLE, id="new-app"),
        pytest.param("PUT", "/v2/apps/fuzz/old?force=true", OLD, id="old-app"),
        pytest.param("PUT", "/v2/apps?force=true", [WHOLE, OLD], id="apps"),
        pytest.param("PUT", "/v2/groups/fuzz?force=true", GROUP, id="group"),
        pytest.param("PUT", "/v2/groups?force=true&dryRun=true", GROUP, id="dry-run"),
        pytest.param("PUT", "/v2/pods/fuzz/pod?force=true", POD, id="pod"),
        pytest.param("POST", "/v2/pods?force=true", POD, id="new-pod"),
        pytest.param("POST", "/v2/tasks/delete", {"ids": ["a.instance-x._app.1"]}, id="tasks"),
        pytest.param("POST", "/logging", {"level": "info", "durationSeconds": 1}, id="logging"),
    ],
)


@BODIES
def test_what_is_made_wrong_is_right_at_first(
    server: Server, method: str, path: str, whole: Any
) -> None:
    check(server, "DELETE", "/v2/groups?force=true", None)

    assert check(server, method, path, json.dumps(whole).encode()) in (200, 201)


@usual
@given(data=st.data())
@BODIES
def test_every_field_may_be_wrong(
    server: Server, method: str, path: str, whole: Any, data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(list(places(whole))))
    body = changed(whole, place, data.draw(values))
    try:
        raw = json.dumps(body).encode()
    except UnicodeEncodeError:
        return

    check(server, method, path, raw)


@settings(usual, max_examples=15)
@given(whole=st.sampled_from((WHOLE, OLD)), value=values, beside=st.none() | st.sampled_from(PARTS))
@pytest.mark.parametrize("key", PARTS)
def test_a_part_of_an_update_may_be_wrong(
    server: Server, key: str, whole: dict[str, Any], value: Any, beside: str | None
) -> None:
    part = {} if beside is None else {beside: {**WHOLE, **OLD}[beside]}
    part[key] = value
    target = "/v2/apps/part?force=true"
    before = json.dumps({**whole, "id": "/part"}).encode()
    assert check(server, "PUT", f"{target}&partialUpdate=false", before) in (200, 201)

    check(server, "PUT", target, json.dumps(part).encode())


@usual
@given(raw=st.binary(max_size=200))
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/apps"),
        ("PUT", "/v2/groups"),
        ("POST", "/v2/pods"),
        ("POST", "/v2/tasks/delete"),
    ],
)
def test_bytes_of_any_kind_are_refused(server: Server, method: str, path: str, raw: bytes) -> None:
    assert check(server, method, path, raw) in (400, 422)


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_depth_is_no_weapon(server: Server, depth: int, opening: str) -> None:
    closing = "}" if opening.startswith("{") else "]"
    raw = (opening * depth + "1" + closing * depth).encode()

    for path in ("/v2/apps", "/v2/groups", "/v2/pods"):
        assert check(server, "POST", path, raw) in (400, 409, 422)


def test_what_is_left_still_serves(server: Server) -> None:
    assert check(server, "DELETE", "/v2/groups?force=true", None) == 200
    assert check(server, "GET", "/v2/apps", None) == 200
