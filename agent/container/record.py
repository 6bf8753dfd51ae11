"""What is kept of a container in its run directory, beside what runc is told."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.container.containerizer import Exit, Limitation
from phalanx.agent.container.runtime import Ended
from phalanx.agent.layout import Layout
from phalanx.core.error import InvalidError
from phalanx.core.files import write_whole
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import NetworkInfo, Resource, Scalar

FACTS = "facts.json"
LIMITED = "limited.json"
MEGABYTE = 1024 * 1024


class Limited(Message, frozen=True, kw_only=True):
    """Which limit ended a container, kept until it is told."""

    reason: str
    message: str
    resources: tuple[Resource, ...] = ()


class Facts(Message, frozen=True, kw_only=True):
    """What is kept of a container in its run directory, beside what runc is told."""

    kind: str
    sandbox: str
    resources: tuple[Resource, ...] = ()
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)
    networks: tuple[NetworkInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """Writes and reads the records of one agent's containers."""

    layout: Layout

    def note(self, request: ContainerRequest, networks: tuple[NetworkInfo, ...]) -> None:
        """Keep what a container is, and on which networks."""
        facts = Facts(
            kind=request.kind,
            sandbox=str(request.sandbox),
            resources=request.resources.messages(),
            limits=dict(request.limits),
            networks=networks,
        )
        place = self.layout.run(request.id)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(place / FACTS, encode(facts))

    def amend(self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]) -> None:
        """Keep other amounts of a container; a disk that refuses does not undo them."""
        facts = msgspec.structs.replace(
            self.facts(container_id), resources=resources.messages(), limits=dict(limits)
        )
        with suppress(OSError):
            write_whole(self.layout.run(container_id) / FACTS, encode(facts))

    def facts(self, container_id: str) -> Facts:
        """Return what is kept of a container; of an unknown one nothing."""
        try:
            return decode(Facts, (self.layout.run(container_id) / FACTS).read_bytes())
        except (OSError, InvalidError):
            return Facts(kind="", sandbox="")

    def limit(self, container_id: str, limited: Limited) -> None:
        """Keep which limit a container is ended for."""
        write_whole(self.layout.run(container_id) / LIMITED, encode(limited))

    def exit(self, container_id: str, ended: Ended) -> Exit:
        """Return how a container ended, as its supervisor and its limits tell."""
        limitation = None
        try:
            raw = (self.layout.run(container_id) / LIMITED).read_bytes()
            limited = decode(Limited, raw)
            limitation = Limitation(limited.reason, limited.message, limited.resources)
        except (OSError, InvalidError):
            if ended.oom_kills:
                limitation = out_of_memory(ended, self.facts(container_id))
        return Exit(ended.status, ended.error, limitation, ended.finished)


def out_of_memory(ended: Ended, facts: Facts) -> Limitation:
    """Return what is told of a container that the memory limit ended, as Mesos words it."""
    asked = Resources.of(facts.resources).scalar("mem")
    limit = facts.limits["mem"].value if "mem" in facts.limits else asked
    used = ended.memory_used / MEGABYTE
    lines = [f"Memory limit exceeded: Requested: {limit:g}MB Maximum Used: {used:g}MB"]
    if ended.memory_stat:
        lines += ["", "MEMORY STATISTICS: ", *ended.memory_stat]
    return Limitation(
        "REASON_CONTAINER_LIMITATION_MEMORY",
        "\n".join(lines),
        Resources.make({"mem": round(used * 1000)}).messages(),
    )
