"""What one instance of an app or a pod takes of an agent."""

from collections.abc import Mapping
from dataclasses import dataclass

from phalanx.marathon.model.app import App
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec

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
    """Return what one instance takes, all its tasks together."""
    kept = sum(v.persistent.size for v in spec.persistent_volumes if v.persistent is not None)
    disk = spec.disk + kept
    amounts = {"cpus": spec.cpus, "mem": spec.mem, "disk": disk, "gpus": spec.gpus}
    return Demand(thousandths(amounts), host_ports(spec), inner_ports(spec))


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
