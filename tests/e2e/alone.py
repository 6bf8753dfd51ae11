"""A master and agents on loopback as a user starts them, and a framework over plain sockets."""

import http.client
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from phalanx.agent.cleanup import remove_all
from phalanx.labs.demo.proof import until
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.codec import encode, from_json
from phalanx.mesos.v1.media import Media, decode_as, encode_as
from phalanx.mesos.v1.scheduler import Call, Event

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]
SECONDS = 60.0
RESOURCES = "cpus:4;mem:2048;disk:2048;ports:[31000-31100]"
ENDS = ("FINISHED", "FAILED", "KILLED", "ERROR", "LOST", "GONE")
TERMINAL = frozenset(f"TASK_{state}" for state in ENDS)

Json = dict[str, Any]


def free_port() -> int:
    """Find a port that nobody listens on, where the kernel gives none to anybody else."""
    for port in random.Random().sample(range(25000, 30000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class Daemon:
    """One daemon with its port and work directory; it can be killed and started again."""

    def __init__(self, words: list[str], port: int, log: Path, environment: Json) -> None:
        self.words = words
        self.port = port
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PHALANX, *self.words, *flags],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
            )
        until(self._answers, seconds=SECONDS, what=f"{self.words[0]} listens, see {self.log}")

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(SECONDS)

    def get(self, path: str, status: int = 200) -> Any:
        return self.call("GET", path, status=status)

    def operate(self, kind: str, status: int = 200, **body: Any) -> Any:
        """Send a call of the v1 operator API and return what its answer holds."""
        answer = self.call("POST", "/api/v1", {"type": kind, **body}, status=status)
        return answer.get(kind.lower()) if isinstance(answer, dict) else answer

    def call(
        self,
        method: str,
        path: str,
        body: Json | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        status: int = 200,
    ) -> Any:
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        text = json.dumps(body) if isinstance(body, dict) else body
        kind = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
        wire.request(method, path, text, {**kind, **(headers or {})})
        response = wire.getresponse()
        said = response.read().decode()
        wire.close()
        assert response.status == status, (method, path, response.status, said)
        is_json = response.getheader("Content-Type", "").startswith("application/json")
        return json.loads(said) if said and is_json else said

    def _answers(self) -> str | None:
        assert self._process is not None
        status = self._process.poll()
        assert status is None, f"ended with {status}: {self.log.read_text()}"
        with suppress(OSError, AssertionError):
            return f"{self.call('GET', '/health')} "
        return None


class Alone:
    """A machine with a master and agents that were started by hand."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.agents: list[Daemon] = []
        self._roots: list[tuple[Path, str]] = []
        port = free_port()
        words = ["master", "--ip", "127.0.0.1", "--port", str(port), "--work-dir", str(base / "m")]
        self.master = Daemon(words, port, base / "master.log", {})

    def agent(self, *flags: str, spelling: str = "--work-dir", **environment: str) -> Daemon:
        """Start one more agent, with a directory, a runtime directory and a cgroup of its own."""
        name, port = f"a{len(self.agents)}", free_port()
        runtime, cgroups = self.base / f"{name}-run", f"phxtest-{uuid4().hex[:8]}"
        self._roots.append((runtime, cgroups))
        words = ["agent", "--master", f"127.0.0.1:{self.master.port}", "--ip", "127.0.0.1"]
        words += ["--port", str(port), spelling, str(self.base / name)]
        words += [f"--runtime-dir={runtime}", f"--cgroups-root={cgroups}", *flags]
        if "MESOS_RESOURCES" not in environment:
            words.append(f"--resources={RESOURCES}")
        daemon = Daemon(words, port, self.base / f"{name}.log", environment)
        self.agents.append(daemon)
        daemon.start()
        self.registered(daemon)
        return daemon

    def registered(self, agent: Daemon) -> Json:
        """Wait until an agent is active, and return what the master tells of it."""
        found: list[Json] = []

        def look() -> str | None:
            slaves = self.master.get("/slaves")["slaves"]
            found[:] = [one for one in slaves if one["port"] == agent.port and one["active"]]
            return "active" if found else None

        until(look, seconds=SECONDS, what=f"the agent of {agent.log} is active")
        return found[0]

    def remove(self) -> None:
        for daemon in (*self.agents, self.master):
            daemon.end(signal.SIGKILL)
        for runtime, cgroups in self._roots:
            remove_all(runtime, cgroups)
            assert not list(Path("/sys/fs/cgroup").glob(f"*/{cgroups}"))
        assert str(self.base) not in Path("/proc/self/mountinfo").read_text()


@contextmanager
def alone(base: Path) -> Iterator[Alone]:
    """Give a machine with a master, and leave nothing of it."""
    machine = Alone(base)
    machine.master.start()
    try:
        yield machine
    finally:
        machine.remove()


@contextmanager
def joined(master: Daemon, media: Media = Media.JSON, **info: Any) -> "Iterator[Scheduler]":
    """Give a framework that is subscribed, and end it."""
    framework = Scheduler(master, media, **info).subscribe()
    try:
        yield framework
    finally:
        framework.teardown()


class Scheduler:
    """A framework that speaks the v1 scheduler API over plain sockets, in one content type."""

    def __init__(self, master: Daemon, media: Media = Media.JSON, **info: Any) -> None:
        capabilities = ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE")
        self.master = master
        self.media = media
        self.info: Json = {
            "user": "root",
            "name": "by hand",
            "roles": ["*"],
            "capabilities": [{"type": name} for name in (*capabilities, "RESERVATION_REFINEMENT")],
            **info,
        }
        self.statuses: dict[str, list[Json]] = {}
        self.messages: list[Json] = []
        self.failures: list[Json] = []
        self._offers: list[Json] = []
        self._events: queue.Queue[Json | None] = queue.Queue()
        self._stream = ""

    def subscribe(self) -> "Scheduler":
        self._events = queue.Queue()
        self._offers.clear()
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.info}}
        wire = http.client.HTTPConnection("127.0.0.1", self.master.port)
        try:
            response = self._post(wire, {**body, **self._named()})
            assert response.status == 200, response.read()
        except (OSError, AssertionError, http.client.HTTPException):
            wire.close()
            raise
        assert response.getheader("Content-Type") == self.media
        self._stream = response.getheader("Mesos-Stream-Id") or ""
        threading.Thread(
            target=self._listen, args=(wire, response, self._events), daemon=True
        ).start()
        told = self.await_event("SUBSCRIBED")["subscribed"]
        self.info["id"] = told["framework_id"]
        return self

    def again(self) -> None:
        """Subscribe anew, as a framework does when its master is gone, until one takes it."""

        def attempt() -> str | None:
            with suppress(OSError, AssertionError, http.client.HTTPException):
                return f"{self.subscribe()} "
            return None

        until(attempt, seconds=SECONDS, what="the framework is subscribed again")

    def call(self, kind: str, status: int = 202, **body: Any) -> str:
        wire = http.client.HTTPConnection("127.0.0.1", self.master.port, timeout=SECONDS)
        response = self._post(wire, {"type": kind, **self._named(), **body})
        said = response.read().decode()
        wire.close()
        assert response.status == status, (kind, response.status, said)
        return said

    def await_event(
        self, kind: str, holds: Callable[[Json], bool] = lambda _: True, seconds: float = SECONDS
    ) -> Json:
        """Take events in, acknowledging updates, until one of a kind comes for which it holds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = self._events.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty as error:
                raise AssertionError(f"no {kind}; {self.statuses}") from error
            assert event is not None, f"the stream ended before {kind}"
            assert event["type"] != "ERROR", event
            self._take(event)
            if event["type"] == kind and holds(event):
                return event

    def offer(
        self, agent: Daemon | None = None, holds: Callable[[Json], bool] = lambda _: True
    ) -> Json:
        """Return an offer, of one agent if it matters; those for which it doesn't hold go back."""
        while True:
            for offer in tuple(self._offers):
                if agent is not None and offer["url"]["address"]["port"] != agent.port:
                    continue
                self._offers.remove(offer)
                if holds(offer):
                    return offer
                at_once = {"refuse_seconds": 0.0}
                self.call("DECLINE", decline={"offer_ids": [offer["id"]], "filters": at_once})
            self.await_event("OFFERS")

    def accept(self, offer: Json, *operations: Json) -> None:
        accept = {
            "offer_ids": [offer["id"]],
            "operations": list(operations),
            "filters": {"refuse_seconds": 0.0},
        }
        self.call("ACCEPT", accept=accept)

    def launch(
        self,
        *tasks: Json,
        agent: Daemon | None = None,
        holds: Callable[[Json], bool] = lambda _: True,
    ) -> None:
        """Launch tasks on one offer, which says where."""
        offer = self.offer(agent, holds)
        placed = [{**task, "agent_id": offer["agent_id"]} for task in tasks]
        self.accept(offer, {"type": "LAUNCH", "launch": {"task_infos": placed}})

    def reached(self, task: str, state: str) -> Json:
        """Wait for a task's state and return the first status that has it."""
        while True:
            for status in self.statuses.get(task, []):
                if status["state"] == f"TASK_{state}":
                    return status
                assert status["state"] not in TERMINAL, status
            self.await_event("UPDATE")

    def states(self, task: str) -> list[str]:
        """Return a task's states in their order, each once."""
        told = [status["state"].removeprefix("TASK_") for status in self.statuses[task]]
        return list(dict.fromkeys(told))

    def teardown(self) -> None:
        self.call("TEARDOWN")

    def _named(self) -> Json:
        return {"framework_id": self.info["id"]} if "id" in self.info else {}

    def _post(self, wire: http.client.HTTPConnection, call: Json) -> http.client.HTTPResponse:
        is_json = self.media is Media.JSON
        body = (
            json.dumps(call).encode() if is_json else encode_as(self.media, from_json(Call, call))
        )
        headers = {"Content-Type": str(self.media), "Accept": str(self.media)}
        if self._stream and call["type"] != "SUBSCRIBE":
            headers["Mesos-Stream-Id"] = self._stream
        wire.request("POST", "/api/v1/scheduler", body, headers)
        return wire.getresponse()

    def _listen(
        self,
        wire: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        events: "queue.Queue[Json | None]",
    ) -> None:
        decoder = RecordDecoder()
        with suppress(OSError, http.client.HTTPException):
            while chunk := response.read1():
                for record in decoder.feed(chunk):
                    if self.media is Media.JSON:
                        events.put(json.loads(record))
                    else:
                        events.put(json.loads(encode(decode_as(self.media, Event, record))))
        events.put(None)
        wire.close()

    def _take(self, event: Json) -> None:
        match event["type"]:
            case "OFFERS":
                self._offers += event["offers"]["offers"]
            case "RESCIND":
                gone = event["rescind"]["offer_id"]
                self._offers = [offer for offer in self._offers if offer["id"] != gone]
            case "MESSAGE":
                self.messages.append(event["message"])
            case "FAILURE":
                self.failures.append(event["failure"])
            case "UPDATE":
                status = event["update"]["status"]
                self.statuses.setdefault(status["task_id"]["value"], []).append(status)
                if "uuid" in status:
                    names = ("agent_id", "task_id", "uuid")
                    self.call("ACKNOWLEDGE", acknowledge={name: status[name] for name in names})


def scalar(name: str, value: float, **more: Any) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def small(**more: Any) -> list[Json]:
    return [scalar("cpus", 0.1, **more), scalar("mem", 32, **more)]


def task(name: str, command: str | Json | None, **more: Any) -> Json:
    """Return a small task; where it runs is said when it is launched."""
    said: Json = {"command": {"value": command} if isinstance(command, str) else command}
    if command is None:
        said = {}
    return {"name": name, "task_id": {"value": name}, "resources": small(), **said, **more}


def output(agent: Daemon, framework: Scheduler, executor: str, name: str = "stdout") -> str:
    """Read a file of an executor's last sandbox as web interfaces do."""
    path = f"/frameworks/{framework.info['id']['value']}/executors/{executor}/runs/latest/{name}"
    return str(agent.get(f"/files/read?path={quote(path)}&offset=0&length=50000")["data"])
