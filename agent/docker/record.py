"""What is kept of a container of Docker in its run directory."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.container.containerizer import Exit, Found, Limitation
from phalanx.agent.docker.request import ENDED, Joining
from phalanx.agent.files import read_json
from phalanx.agent.layout import Layout
from phalanx.agent.process import Process
from phalanx.core.error import InvalidError
from phalanx.core.files import write_whole
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import NetworkInfo, Resource, Scalar

FACTS = "facts.json"


class Facts(Message, frozen=True, kw_only=True):
    """What is kept of a container in its run directory, beside what its attendant writes."""

    socket: str
    sandbox: str
    mode: str
    networks: tuple[NetworkInfo, ...] = ()
    resources: tuple[Resource, ...] = ()
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)
    stop_signal: int = int(signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Records:
    """Writes and reads the records of one agent's containers; *socket* is their engine's."""

    layout: Layout
    socket: str

    def note(
        self,
        request: ContainerRequest,
        join: Joining,
        networks: tuple[NetworkInfo, ...],
        stop_signal: int = int(signal.SIGTERM),
    ) -> None:
        """Keep what a container is, and on which networks."""
        facts = Facts(
            socket=self.socket,
            sandbox=str(request.sandbox),
            mode=join.mode,
            networks=networks,
            resources=request.resources.messages(),
            limits=dict(request.limits),
            stop_signal=stop_signal,
        )
        self._write(request.id, facts)

    def amend(self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]) -> None:
        """Keep other amounts of a container."""
        facts = msgspec.structs.replace(
            self.facts(container_id), resources=resources.messages(), limits=dict(limits)
        )
        self._write(container_id, facts)

    def _write(self, container_id: str, facts: Facts) -> None:
        write_whole(self.layout.docker / container_id / FACTS, encode(facts))

    def facts(self, container_id: str) -> Facts:
        """Return what is kept of a container; little of one that nobody knows."""
        try:
            return decode(Facts, (self.layout.docker / container_id / FACTS).read_bytes())
        except (OSError, InvalidError):
            return Facts(socket=self.socket, sandbox="", mode="")

    def attendant(self, container_id: str) -> Process | None:
        """Return the process that follows a container, or did."""
        facts = read_json(self.layout.docker / container_id / "supervisor")
        return Process(int(facts["pid"]), int(facts["start_time"])) if facts else None

    def find(self, container_id: str) -> Found:
        """Read what is known of a container."""
        place = self.layout.docker / container_id
        facts = self.facts(container_id)
        started, end = read_json(place / "started"), read_json(place / "exit")
        init = Process(int(started["pid"]), int(started["start_time"])) if started else None
        exit = _exit(end, facts) if end is not None else None
        when = started.get("started") if started else None
        return Found(init, exit, when, facts.networks)

    def known(self) -> tuple[str, ...]:
        """Return every container that has a run directory."""
        if not self.layout.docker.is_dir():
            return ()
        names = (path.name for path in self.layout.docker.iterdir())
        return tuple(sorted(name for name in names if not name.startswith(ENDED)))


def _exit(end: Mapping[str, Any], facts: Facts) -> Exit:
    """Return how a container ended, as its attendant tells."""
    limitation = None
    if end.get("oom_kills"):
        asked = Resources.of(facts.resources).scalar("mem")
        limit = facts.limits["mem"].value if "mem" in facts.limits else asked
        limitation = Limitation(
            "REASON_CONTAINER_LIMITATION_MEMORY",
            f"Memory limit exceeded: Requested: {limit:g}MB Maximum Used: {limit:g}MB",
            Resources.make({"mem": round(limit * 1000)}).messages(),
        )
    return Exit(end.get("status"), end.get("error"), limitation, end.get("finished"))
