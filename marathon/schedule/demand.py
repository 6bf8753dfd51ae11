"""What one instance of an app or a pod takes of an agent."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.marathon.model.app import App
from phalanx.marathon.model.pod import Pod, PodResources
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.model.volume import PersistentVolume

DYNAMIC = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """Amounts in thousandths; ports in the order of the app's, or of all endpoints of the pod.

    *host_ports* has for each port a number, DYNAMIC, or None for none at all, *inner* the port
    inside the container, 0 where it is the same as the host's.
    """

    scalars: Mapping[str, int]
    host_ports: tuple[int | None, ...]
    inner: tuple[int, ...]


def demand_of(spec: Spec) -> Demand:
    """Return what one instance takes, all its tasks and its executor together.

    Volumes on disks of their own are left out: each asks for one disk.
    """
    scalars = Counter(amounts_of(spec))
    on_root = sum(kept.size for kept in kept_volumes(spec).values() if kept.type == "root")
    scalars.update(thousandths({"disk": on_root}))
    return Demand(dict(scalars), host_ports(spec), inner_ports(spec))


def amounts_of(spec: Spec) -> Mapping[str, int]:
    """Return what one instance takes beside its volumes, in thousandths."""
    scalars: Counter[str] = Counter()
    parts = [part.resources for part in spec.containers] if isinstance(spec, Pod) else [spec]
    for amounts in (executor_amounts(spec), *map(task_amounts, parts)):
        scalars.update(amounts)
    return scalars


def kept_volumes(spec: Spec) -> Mapping[str, PersistentVolume]:
    """Return the volumes that outlive an instance's tasks by where its sandbox has them."""
    if isinstance(spec, Pod):
        return {v.name: v.persistent for v in spec.volumes if v.persistent is not None}
    volumes = spec.persistent_volumes
    return {v.container_path: v.persistent for v in volumes if v.persistent is not None}


def executor_amounts(spec: Spec) -> Mapping[str, int]:
    """Return what an instance's executor takes, in thousandths: a pod's, or one of the user's."""
    extra = spec.executor_resources
    if extra is None or (isinstance(spec, App) and not spec.has_own_executor):
        return {}
    return thousandths({"cpus": extra.cpus, "mem": extra.mem, "disk": extra.disk})


def task_amounts(part: App | PodResources) -> Mapping[str, int]:
    """Return what one task takes, in thousandths."""
    amounts = {"cpus": part.cpus, "mem": part.mem, "disk": part.disk, "gpus": part.gpus}
    return thousandths(amounts)


def thousandths(amounts: Mapping[str, float]) -> dict[str, int]:
    """Return amounts as the resource arithmetic counts them; those of nothing are left out."""
    return {name: round(amount * 1000) for name, amount in amounts.items() if amount > 0}


def host_ports(spec: Spec) -> tuple[int | None, ...]:
    """Return for each port the host port: a number, DYNAMIC, or None for none at all."""
    if isinstance(spec, Pod):
        return tuple(_of_endpoint(spec, endpoint.host_port) for endpoint in spec.endpoints)
    if spec.is_on_host_network:
        return tuple(
            definition.port if spec.require_ports else DYNAMIC
            for definition in spec.port_definitions or ()
        )
    if spec.is_bridged:
        return tuple(mapping.host_port or DYNAMIC for mapping in spec.mappings)
    return tuple(mapping.host_port for mapping in spec.mappings)


def inner_ports(spec: Spec) -> tuple[int, ...]:
    """Return for each port what it is inside the container; 0 where it is the host's."""
    if isinstance(spec, App):
        if spec.is_on_host_network:
            return tuple(0 for _ in spec.port_definitions or ())
        return tuple(mapping.container_port for mapping in spec.mappings)
    if spec.is_on_host_network:
        return tuple(0 for _ in spec.endpoints)
    return tuple(endpoint.container_port or 0 for endpoint in spec.endpoints)


def _of_endpoint(pod: Pod, host_port: int | None) -> int | None:
    if pod.is_on_host_network or pod.is_bridged:
        return host_port or DYNAMIC
    return host_port
