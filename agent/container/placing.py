"""Where the parts of a container lie: its networks, namespaces, volumes and files."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from phalanx.agent.bundle.mount import TEMPORARY, host_mounts
from phalanx.agent.bundle.request import ContainerRequest, lineage
from phalanx.agent.bundle.spec import IMAGE_SANDBOX, ImageRoot, Place, Terms, User
from phalanx.agent.cni.attach import Networks, named
from phalanx.agent.container.record import MEGABYTE, Records
from phalanx.agent.container.runtime import Containers
from phalanx.agent.container.way import Ways
from phalanx.agent.files import read_json
from phalanx.agent.image.store import Image
from phalanx.agent.layout import Layout
from phalanx.agent.namespace import make_memory_disk
from phalanx.agent.volume.mounting import Volumes, check_targets
from phalanx.agent.volume.plan import wanted_volumes
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import IPAddress, LinuxInfo, NetworkInfo

RESOLV_CONF = "/etc/resolv.conf"
HOST_FILES = ("/etc/hosts", "/etc/hostname", RESOLV_CONF)


@dataclass(frozen=True, slots=True)
class Placing:
    """Makes places for one agent's containers."""

    layout: Layout
    containers: Containers
    networks: Networks
    volumes: Volumes
    records: Records
    ways: Ways

    async def place(
        self, request: ContainerRequest, image: Image | None, user: User
    ) -> tuple[tuple[NetworkInfo, ...], Place]:
        """Attach a container to its networks and say where its parts lie."""
        asked = named(request.container.network_infos if request.container else ())
        given = request.container.hostname if request.container else None
        hostname = given or request.hostname or request.container_id.value
        joined: dict[str, str] = {}
        holder: str | None = None  # whose network it is
        if request.parent is not None:
            joined = self._joined(request)
        if asked:
            networks = await self.networks.attach(request.id, asked, hostname)
            holder = request.id
            joined.pop("uts", None)
        elif request.parent is not None:
            holder = self.holder(request.id)
            networks = self.records.facts(request.parent).networks
        else:
            networks = (own_network(self.ways.ip, self.ways.ip6),)
        home = self.layout.networks / holder if holder else None
        linux = (request.container.linux_info if request.container else None) or LinuxInfo()
        shared = self._shared(request, linux)
        inside = str(request.sandbox) if image is None else IMAGE_SANDBOX
        wanted = wanted_volumes(request, inside, str(self.layout.work))
        if image is None:
            check_targets(wanted, inside)
        run = self.layout.run(request.id)
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        return networks, Place(
            sandbox=str(request.sandbox),
            cgroup=self.containers.cgroups.path_of(request.id),
            hostname=hostname if asked else None,
            network=str(self.networks.namespace(holder)) if holder else None,
            files=self._files(home),
            host_mounts=host_mounts(Path("/proc/self/mountinfo").read_text()),
            temporary=tuple(point for point in TEMPORARY if Path(point).is_dir()),
            image=self._root(request.id, image) if image else None,
            joined=joined,
            shared=shared,
            is_writable=self.ways.is_host_writable,
            volumes=await self.volumes.ready(wanted, run, user),
            shm=await self._shm(request, linux, joined, shared),
            shm_bytes=(linux.shm_size or 0) * MEGABYTE or self.ways.shm_bytes,
        )

    async def terms(self, request: ContainerRequest) -> Terms:
        """Return what holds for a container, its seccomp profile read."""
        linux = request.container.linux_info if request.container else None
        asked = linux.seccomp if linux else None
        name = self.ways.profile
        if asked is not None and asked.unconfined:
            if asked.profile_name is not None:
                raise ContainerError("seccomp: has both profile_name and unconfined")
            name = None
        elif asked is not None and asked.profile_name is not None:
            name = asked.profile_name
        if name is None:
            return self.ways.terms
        if self.ways.profiles is None or "/" in name or name in (".", ".."):
            raise ContainerError(f"seccomp: profile {name!r}: there is none of this name")
        profile = await asyncio.to_thread(read_json, self.ways.profiles / name)
        if profile is None or "defaultAction" not in profile:
            raise ContainerError(f"seccomp: profile {name!r}: there is none of this name")
        return replace(self.ways.terms, seccomp=profile)

    def holder(self, container_id: str) -> str | None:
        """Return which container, this one or an ancestor, has the network that it is on."""
        for name in (container_id, *lineage(container_id)):
            if self.networks.namespace(name).exists():
                return name
        return None

    def _shared(self, request: ContainerRequest, linux: LinuxInfo) -> frozenset[str]:
        """Return which of the agent's namespaces a container of the top level keeps."""
        if request.parent is not None:
            return frozenset()
        found = set()
        if linux.share_pid_namespace:
            if self.ways.keeps_pid:
                raise ContainerError("Sharing agent pid namespace with container is disallowed")
            found.add("pid")
        if linux.ipc_mode == "SHARE_PARENT":
            if self.ways.keeps_ipc:
                raise ContainerError("Sharing agent IPC namespace with container is disallowed")
            found.add("ipc")
        if "ipc" in found and linux.shm_size is not None:
            raise ContainerError("linux_info.shm_size: the parent's /dev/shm is shared")
        return frozenset(found)

    async def _shm(
        self,
        request: ContainerRequest,
        linux: LinuxInfo,
        joined: Mapping[str, str],
        shared: frozenset[str],
    ) -> str | None:
        """Return what is bound as /dev/shm: the parent's, the host's, one for children; or None."""
        if "ipc" in shared:
            return "/dev/shm"
        if "ipc" in joined:
            for name in lineage(request.id):
                place = self.layout.run(name) / "shm"
                if place.is_dir():
                    return str(place)
            return None
        if request.kind in ("task", "debug"):
            return None
        place = self.layout.run(request.id) / "shm"
        place.mkdir(exist_ok=True)
        size = (linux.shm_size or 0) * MEGABYTE or self.ways.shm_bytes
        await asyncio.to_thread(make_memory_disk, place, size)
        return str(place)

    def _joined(self, request: ContainerRequest) -> dict[str, str]:
        """Return the namespaces that a nested container shares with its parent."""
        parent = self.containers.find(request.parent or "").init
        if parent is None:
            raise ContainerError(f"parent container {request.parent!r}: does not run")
        linux = request.container.linux_info if request.container else None
        kinds = {"uts": "uts", "ipc": "ipc"}
        if linux is not None and linux.ipc_mode == "PRIVATE":
            del kinds["ipc"]
        if linux is not None and linux.share_pid_namespace:
            kinds["pid"] = "pid"
        return {kind: f"/proc/{parent.pid}/ns/{name}" for kind, name in kinds.items()}

    def _files(self, home: Path | None) -> dict[str, str]:
        """Return what is bound over the root's files, from a container's own files in *home*."""
        found = {}
        for point in HOST_FILES:
            source = os.path.realpath(point)
            own = home / Path(point).name if home is not None else None
            if own is not None and own.exists():
                source = str(own)
            elif point == RESOLV_CONF and self.ways.resolv_conf is not None:
                source = str(self.ways.resolv_conf)
            if os.path.exists(point) and os.path.exists(source):
                found[point] = source
        return found

    def _root(self, container_id: str, image: Image) -> ImageRoot:
        upper, work = self.layout.image_layers(container_id)
        lower = str(image.rootfs)
        return ImageRoot(lower, str(upper), str(work), image.config, image.has_shell)


def own_network(ip: str, ip6: str | None = None) -> NetworkInfo:
    """Return what the status of a container in the agent's own network says."""
    addresses = [IPAddress(protocol="IPv4", ip_address=ip)]
    if ip6 is not None:
        addresses.append(IPAddress(protocol="IPv6", ip_address=ip6))
    return NetworkInfo(ip_addresses=tuple(addresses))
