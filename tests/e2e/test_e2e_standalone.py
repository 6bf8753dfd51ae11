"""A master and agents started by hand on loopback serve frameworks as a user of Mesos expects."""

import base64
import http.client
import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.e2e.alone import (
    PHALANX,
    Alone,
    Daemon,
    Json,
    Scheduler,
    alone,
    free_port,
    joined,
    output,
    scalar,
    small,
    task,
)

from phalanx.labs.demo.proof import until
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.media import Media

UNTIL_STOPPED = "while [ ! -e stop ]; do sleep 0.05; done"

# What a user writes who has read the documentation of the executor API, and no more.
EXECUTOR = """
import base64, http.client, json, os, threading, uuid

agent, _, port = os.environ["MESOS_AGENT_ENDPOINT"].partition(":")
ids = {"framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
       "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]}}
tasks, updates = {}, {}

def connect():
    return http.client.HTTPConnection(agent, int(port))

def call(kind, **body):
    wire = connect()
    wire.request("POST", "/api/v1/executor", json.dumps({"type": kind, **ids, **body}),
                 {"Content-Type": "application/json"})
    answer = wire.getresponse()
    assert answer.status == 202, answer.read()

def update(task, state, **more):
    token = base64.b64encode(uuid.uuid4().bytes).decode()
    status = {"task_id": task["task_id"], "state": "TASK_" + state, "uuid": token,
              "source": "SOURCE_EXECUTOR", **more}
    updates[token] = {"status": status}
    call("UPDATE", update={"status": status})

def run():
    while True:
        try:
            wire = connect()
            body = {"unacknowledged_tasks": list(tasks.values()),
                    "unacknowledged_updates": list(updates.values())}
            wire.request("POST", "/api/v1/executor",
                         json.dumps({"type": "SUBSCRIBE", **ids, "subscribe": body}),
                         {"Content-Type": "application/json", "Accept": "application/json"})
            stream = wire.getresponse()
            while True:
                size = stream.readline()
                if not size:
                    break
                handle(json.loads(stream.read(int(size))))
        except (OSError, http.client.HTTPException):
            pass
        threading.Event().wait(0.1)

def handle(event):
    kind = event["type"]
    print(kind, flush=True)
    if kind == "LAUNCH":
        task = event["launch"]["task"]
        tasks[task["task_id"]["value"]] = task
        update(task, "RUNNING", message=open("word").read())
    elif kind == "ACKNOWLEDGED":
        updates.pop(event["acknowledged"]["uuid"], None)
        tasks.pop(event["acknowledged"]["task_id"]["value"], None)
    elif kind == "MESSAGE":
        call("MESSAGE", message={"data": event["message"]["data"]})
    elif kind == "KILL":
        update({"task_id": event["kill"]["task_id"]}, "KILLED", message="as told")
    elif kind == "SHUTDOWN":
        os._exit(0)

open("word", "w").write("from " + os.getcwd())
run()
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """Yield a master with one agent, as the README starts them."""
    with alone(tmp_path_factory.mktemp("alone")) as machine:
        machine.agent("--attributes", "rack:r1;size:3;cpus:[1-2]")
        yield machine


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Alone]:
    """Yield a master of the test's own."""
    with alone(tmp_path) as machine:
        yield machine


@pytest.fixture(params=list(Media), ids=["json", "protobuf"])
def framework(machine: Alone, request: pytest.FixtureRequest) -> Iterator[Scheduler]:
    """Yield a framework in each content type, and end it."""
    with joined(machine.master, request.param) as framework:
        yield framework


@pytest.fixture
def plain(machine: Alone) -> Iterator[Scheduler]:
    """Yield a framework that speaks JSON, and end it."""
    with joined(machine.master) as framework:
        yield framework


def program(tmp_path: Path) -> Json:
    """Return the executor of a framework's own, a file in the test's directory."""
    file = tmp_path / "executor.py"
    file.write_text(EXECUTOR)
    return {
        "type": "CUSTOM",
        "executor_id": {"value": "mine"},
        "command": {"value": f"exec {sys.executable} {file}"},
        "resources": small(),
    }


def sandbox(agent: Daemon, framework: Scheduler, executor: str) -> Path:
    """Return the last sandbox of an executor as it lies on the disk."""
    top = Path(agent.get("/flags")["flags"]["work_dir"]) / "slaves"
    name = framework.info["id"]["value"]
    [found] = top.glob(f"*/frameworks/{name}/executors/{executor}/runs/latest")
    return found.resolve()


def test_a_command_runs_to_its_end(machine: Alone, framework: Scheduler) -> None:
    framework.launch(task("hello", "echo hello $MESOS_TASK_ID; echo no >&2"))

    status = framework.reached("hello", "FINISHED")

    assert framework.states("hello") == ["STARTING", "RUNNING", "FINISHED"]
    assert status["message"] == "Command exited with status 0"
    [network] = status["container_status"]["network_infos"]
    assert network["ip_addresses"] == [{"protocol": "IPv4", "ip_address": "127.0.0.1"}]
    [agent] = machine.agents
    assert output(agent, framework, "hello") == "hello hello\n"
    assert output(agent, framework, "hello", "stderr") == "no\n"
    assert (sandbox(agent, framework, "hello") / "stdout").read_text() == "hello hello\n"


def test_a_command_that_fails_says_so(framework: Scheduler) -> None:
    framework.launch(task("bad", "exit 3"))

    assert framework.reached("bad", "FAILED")["message"] == "Command exited with status 3"


def test_a_kill_leaves_time_to_end(machine: Alone, framework: Scheduler) -> None:
    command = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    framework.launch(task("patient", command))
    framework.reached("patient", "RUNNING")
    [agent] = machine.agents
    until(lambda: output(agent, framework, "patient") or None, seconds=30, what="it traps")

    policy = {"grace_period": {"nanoseconds": 60_000_000_000}}
    framework.call("KILL", kill={"task_id": {"value": "patient"}, "kill_policy": policy})

    framework.reached("patient", "KILLED")
    assert framework.states("patient") == ["STARTING", "RUNNING", "KILLING", "KILLED"]
    assert output(agent, framework, "patient") == "up\nbye\n"


def test_a_group_shares_the_network_of_the_host(machine: Alone, framework: Scheduler) -> None:
    port = free_port()
    serve = f"exec {sys.executable} -m http.server --bind 127.0.0.1 {port}"
    fetch = (
        "import threading, urllib.request\n"
        "while True:\n"
        "    try:\n"
        f"        urllib.request.urlopen('http://127.0.0.1:{port}/').read(); break\n"
        "    except OSError: threading.Event().wait(0.05)\n"
    )
    offer = framework.offer()
    command = {"shell": False, "value": sys.executable, "arguments": ["p", "-c", fetch]}
    client = task("client", command, agent_id=offer["agent_id"])
    group = {"tasks": [task("server", serve, agent_id=offer["agent_id"]), client]}
    executor = {
        "type": "DEFAULT",
        "executor_id": {"value": "pod"},
        "framework_id": framework.info["id"],
        "resources": [*small(), scalar("disk", 1)],
    }
    framework.accept(
        offer,
        {"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": group}},
    )

    framework.reached("client", "FINISHED")
    running = framework.reached("server", "RUNNING")
    framework.call("KILL", kill={"task_id": {"value": "server"}})
    framework.reached("server", "KILLED")

    assert running["executor_id"]["value"] == "pod"
    assert running["container_status"]["container_id"]["parent"]["value"]


def test_an_executor_of_ones_own(machine: Alone, framework: Scheduler, tmp_path: Path) -> None:
    framework.launch(
        task("first", None, executor=program(tmp_path)),
        task("second", None, executor=program(tmp_path)),
    )
    status = framework.reached("first", "RUNNING")
    framework.reached("second", "RUNNING")
    assert status["message"] == f"from {sandbox(machine.agents[0], framework, 'mine')}"

    told = {"agent_id": status["agent_id"], "executor_id": {"value": "mine"}}
    data = base64.b64encode(b"knock").decode()
    framework.call("MESSAGE", message={**told, "data": data})
    framework.await_event("MESSAGE")
    framework.call("KILL", kill={"task_id": {"value": "first"}})
    killed = framework.reached("first", "KILLED")
    framework.call("SHUTDOWN", shutdown=told)
    framework.await_event("FAILURE", lambda event: "executor_id" in event["failure"])
    failed = framework.reached("second", "FAILED")

    assert [message["data"] for message in framework.messages] == [data]
    assert killed["message"] == "as told"
    assert failed["reason"] == "REASON_EXECUTOR_TERMINATED"
    assert output(machine.agents[0], framework, "mine").split()[-1] == "SHUTDOWN"


def has_volume(offer: Json) -> bool:
    """Tell whether an offer has a persistent volume."""
    return any("persistence" in resource.get("disk", {}) for resource in offer["resources"])


def test_a_volume_outlives_the_task_that_wrote_it(machine: Alone) -> None:
    reservation = {"type": "DYNAMIC", "role": "db", "principal": "dba"}
    disk = scalar("disk", 64, reservations=[reservation])
    persistence = {"id": "data-1", "principal": "dba"}
    mount = {"container_path": "data", "mode": "RW"}
    volume = {**disk, "disk": {"persistence": persistence, "volume": mount}}
    with joined(machine.master, roles=["db"], principal="dba") as framework:
        framework.accept(
            framework.offer(),
            {"type": "RESERVE", "reserve": {"resources": [disk]}},
            {"type": "CREATE", "create": {"volumes": [volume]}},
        )

        for name, command in (("writer", "echo kept >data/file"), ("reader", "cat data/file")):
            one = task(name, command, resources=[*small(), volume])
            framework.launch(one, holds=has_volume)
            framework.reached(name, "FINISHED")

        assert output(machine.agents[0], framework, "reader") == "kept\n"
        [slave] = machine.master.get("/slaves")["slaves"]
        assert slave["reserved_resources"]["db"]["disk"] == 64.0
        framework.accept(
            framework.offer(holds=has_volume),
            {"type": "DESTROY", "destroy": {"volumes": [volume]}},
            {"type": "UNRESERVE", "unreserve": {"resources": [disk]}},
        )
        until(
            lambda: (
                None if machine.master.get("/slaves")["slaves"][0]["reserved_resources"] else "ok"
            ),
            seconds=30,
            what="nothing is reserved",
        )


def test_health_and_checks_are_told(machine: Alone, framework: Scheduler) -> None:
    timing = {"delay_seconds": 0.0, "interval_seconds": 0.05, "timeout_seconds": 5.0}
    health = {"type": "COMMAND", "command": {"value": "test ! -e sick"}, **timing}
    health |= {"grace_period_seconds": 0.0, "consecutive_failures": 2}
    check = {"type": "COMMAND", "command": {"command": {"value": "exit 4"}}, **timing}
    framework.launch(task("patient", UNTIL_STOPPED, health_check=health, check=check))
    framework.await_event("UPDATE", lambda event: event["update"]["status"].get("healthy") is True)
    codes = [one["check_status"].get("command", {}) for one in framework.statuses["patient"]]

    while not any(code.get("exit_code") == 4 for code in codes):
        framework.await_event("UPDATE")
        codes = [one["check_status"].get("command", {}) for one in framework.statuses["patient"]]
    (sandbox(machine.agents[0], framework, "patient") / "sick").touch()

    assert framework.reached("patient", "KILLED")["healthy"] is False


def test_what_a_server_holds_is_fetched(
    machine: Alone, framework: Scheduler, tmp_path: Path
) -> None:
    (tmp_path / "words").write_text("fetched")
    subprocess.run(["tar", "-czf", "w.tar.gz", "words"], cwd=tmp_path, check=True, timeout=30)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(tmp_path))

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        uris = [{"value": f"{url}/w.tar.gz"}, {"value": f"{url}/words", "output_file": "again"}]
        command = {"value": "cat words again", "uris": uris}
        framework.launch(task("reader", command))
        framework.reached("reader", "FINISHED")
        missing = {"value": "true", "uris": [{"value": f"{url}/nosuch"}]}
        framework.launch(task("lost", missing))
        failed = framework.reached("lost", "FAILED")
        server.shutdown()

    assert output(machine.agents[0], framework, "reader") == "fetchedfetched"
    assert "nosuch" in failed["message"]


def test_files_of_a_sandbox_are_browsed_read_and_downloaded(
    machine: Alone, plain: Scheduler
) -> None:
    [agent] = machine.agents
    plain.launch(task("writer", "mkdir d; printf abcdef >d/f"))
    plain.reached("writer", "FINISHED")
    place = sandbox(agent, plain, "writer")

    names = [Path(row["path"]).name for row in agent.get(f"/files/browse?path={quote(str(place))}")]
    middle = agent.get(f"/files/read?path={quote(str(place))}/d/f&offset=2&length=3")
    whole = agent.get(f"/files/download?path={quote(str(place))}/d/f")
    call = agent.operate("READ_FILE", read_file={"path": f"{place}/d/f", "offset": 0})

    assert names == ["d", "stderr", "stdout"]
    assert middle == {"data": "cde", "offset": 2}
    assert whole == "abcdef"
    assert base64.b64decode(call["data"]) == b"abcdef"
    agent.get(f"/files/read?path={quote(str(place))}/../../nosuch&offset=0", status=404)


def test_a_session_runs_inside_a_task(machine: Alone, plain: Scheduler) -> None:
    [agent] = machine.agents
    plain.launch(task("host", f"echo secret >here; {UNTIL_STOPPED}"))
    parent = plain.reached("host", "RUNNING")["container_status"]["container_id"]
    here = sandbox(agent, plain, "host") / "here"
    until(lambda: "" if here.exists() and here.read_text() else None, seconds=30, what="the secret")
    body = {
        "type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": {
            "container_id": {"value": "look", "parent": parent},
            "command": {"value": "cat here; echo oops >&2"},
        },
    }
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/recordio",
        "Message-Accept": "application/json",
    }
    wire = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=30)
    wire.request("POST", "/api/v1", json.dumps(body), headers)
    response = wire.getresponse()
    records = [json.loads(record) for record in RecordDecoder().feed(response.read())]
    wire.close()

    said = {"STDOUT": b"", "STDERR": b""}
    for record in records:
        if record["type"] == "DATA":
            said[record["data"]["type"]] += base64.b64decode(record["data"]["data"])
    assert response.status == 200
    assert said == {"STDOUT": b"secret\n", "STDERR": b"oops\n"}


def test_reconciliation_knows_what_runs_and_what_does_not(framework: Scheduler) -> None:
    framework.launch(task("known", UNTIL_STOPPED))
    framework.reached("known", "RUNNING")
    tasks = [{"task_id": {"value": name}} for name in ("known", "never")]

    framework.call("RECONCILE", reconcile={"tasks": tasks})

    framework.reached("never", "UNKNOWN")
    last = framework.statuses["known"][-1]
    assert (last["state"], last["reason"]) == ("TASK_RUNNING", "REASON_RECONCILIATION")


def test_a_framework_that_is_torn_down_leaves_nothing(machine: Alone) -> None:
    framework = Scheduler(machine.master).subscribe()
    framework.launch(task("long", UNTIL_STOPPED))
    framework.reached("long", "RUNNING")

    form = f"frameworkId={framework.info['id']['value']}"
    machine.master.call("POST", "/teardown", form)

    [agent] = machine.agents
    until(lambda: None if agent.get("/containers") else "ok", seconds=30, what="nothing runs")
    state = machine.master.get("/state")
    ended = [one for one in state["completed_frameworks"] if one["id"] in form]
    assert [one["state"] for one in ended[0]["completed_tasks"]] == ["TASK_KILLED"]
    framework.call("REVIVE", status=400)


def test_attributes_reach_offers_and_pages(machine: Alone, plain: Scheduler) -> None:
    attributes = {one["name"]: one for one in plain.offer()["attributes"]}
    [slave] = machine.master.get("/slaves")["slaves"]

    assert attributes["rack"]["text"]["value"] == "r1"
    assert attributes["size"]["scalar"]["value"] == 3.0
    assert slave["attributes"] == {"rack": "r1", "size": 3.0, "cpus": "[1-2]"}


def test_frameworks_are_offered_what_is_their_roles(own: Alone) -> None:
    for _ in range(3):
        own.agent()
    own.master.call("PUT", "/weights", '[{"role": "big", "weight": 2}]')
    mine = [Scheduler(own.master, roles=[name], name=name) for name in ("big", "little")]

    for framework in mine:
        framework.subscribe()
    for framework in mine:
        offer = framework.offer()
        assert offer["allocation_info"]["role"] == framework.info["name"]
        framework.accept(offer)

    roles = {row["name"]: row for row in own.master.get("/roles")["roles"]}
    assert roles["big"]["weight"] == 2.0
    assert roles["little"]["frameworks"] == [mine[1].info["id"]["value"]]


def test_a_drained_agent_ends_its_tasks_and_takes_none(own: Alone) -> None:
    agent = own.agent()
    framework = Scheduler(own.master).subscribe()
    framework.launch(task("long", UNTIL_STOPPED))
    framework.reached("long", "RUNNING")
    agent_id = {"value": own.registered(agent)["id"]}

    own.master.operate("DRAIN_AGENT", drain_agent={"agent_id": agent_id})

    # With TASK_KILLING_STATE it is told that it drains before it is dead.
    assert framework.reached("long", "KILLED")["reason"] == "REASON_AGENT_DRAINING"

    def drained() -> str | None:
        [one] = own.master.operate("GET_AGENTS")["agents"]
        return "ok" if one["drain_info"]["state"] == "DRAINED" else None

    until(drained, seconds=30, what="the agent is drained")
    own.master.operate("REACTIVATE_AGENT", reactivate_agent={"agent_id": agent_id})
    framework.launch(task("after", "true"))
    framework.reached("after", "FINISHED")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_tasks_outlive_their_agent(own: Alone, number: int, tmp_path: Path) -> None:
    agent = own.agent()
    framework = Scheduler(own.master, checkpoint=True, failover_timeout=600.0).subscribe()
    framework.launch(task("command", UNTIL_STOPPED), task("held", None, executor=program(tmp_path)))
    framework.reached("command", "RUNNING")
    framework.reached("held", "RUNNING")
    before = own.registered(agent)["id"]

    agent.end(number)
    (sandbox_of(own, framework, "command") / "stop").touch()
    agent.start()

    assert framework.reached("command", "FINISHED")["message"] == "Command exited with status 0"
    framework.call("KILL", kill={"task_id": {"value": "held"}})
    assert framework.reached("held", "KILLED")["message"] == "as told"
    assert own.registered(agent)["id"] == before


def sandbox_of(machine: Alone, framework: Scheduler, executor: str) -> Path:
    """Return a sandbox without asking the agent, which may be dead."""
    name = framework.info["id"]["value"]
    pattern = f"*/slaves/*/frameworks/{name}/executors/{executor}/runs/latest"
    [found] = machine.base.glob(pattern)
    return found.resolve()


@pytest.mark.parametrize("media", list(Media), ids=["json", "protobuf"])
def test_tasks_and_frameworks_outlive_their_master(own: Alone, media: Media) -> None:
    own.agent()
    framework = Scheduler(own.master, media, checkpoint=True, failover_timeout=600.0).subscribe()
    name = framework.info["id"]["value"]
    framework.launch(task("long", UNTIL_STOPPED))
    framework.reached("long", "RUNNING")

    own.master.end(signal.SIGKILL)
    own.master.start()
    framework.again()
    framework.call("RECONCILE", reconcile={"tasks": []})
    (sandbox_of(own, framework, "long") / "stop").touch()

    framework.reached("long", "FINISHED")
    assert framework.info["id"]["value"] == name
    framework.launch(task("after", "true"))
    framework.reached("after", "FINISHED")


def test_agents_of_one_machine_keep_apart(own: Alone) -> None:
    first = own.agent()
    second = own.agent(spelling="--work_dir")
    framework = Scheduler(own.master, checkpoint=True, failover_timeout=600.0).subscribe()
    framework.launch(task("one", UNTIL_STOPPED), agent=first)
    framework.launch(task("two", UNTIL_STOPPED), agent=second)
    framework.reached("one", "RUNNING")
    framework.reached("two", "RUNNING")

    first.end(signal.SIGKILL)
    first.start()
    own.registered(first)

    assert [row["executor_id"] for row in second.get("/containers")] == ["two"]
    assert [row["executor_id"] for row in first.get("/containers")] == ["one"]


def test_the_environment_sets_what_flags_do_not(own: Alone) -> None:
    agent = own.agent(MESOS_RESOURCES="cpus:3;mem:512", MESOS_ATTRIBUTES="zone:z9")
    slave = own.registered(agent)

    assert (slave["resources"]["cpus"], slave["resources"]["mem"]) == (3.0, 512.0)
    assert slave["attributes"] == {"zone": "z9"}
    assert agent.get("/flags")["flags"]["resources"] == "cpus:3;mem:512"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param(("master", "--nosuch=1", "--work-dir=w"), "nosuch", id="unknown"),
        pytest.param(("master", "--work-dir=w", "--port=x"), "port", id="no-number"),
        pytest.param(("master", "--work-dir=w", "--modules=m.json"), "modules", id="modules"),
        pytest.param(("agent", "--work-dir=w"), "master", id="no-master"),
        pytest.param(("agent", "--master=127.0.0.1:1"), "work-dir", id="no-work-dir"),
        pytest.param(
            ("agent", "--master=127.0.0.1:1", "--work-dir=w", "--systemd_enable_support=maybe"),
            "systemd",
            id="no-boolean",
        ),
    ],
)
def test_what_can_not_be_obeyed_is_refused_by_name(
    tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    done = subprocess.run(
        [*PHALANX, *words], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode != 0
    assert named in done.stderr
    assert "Traceback" not in done.stderr
