"""Networks and ports of apps and pods (reference marathon §1.3, §1.4)."""

import enum

import msgspec


class NetworkMode(enum.StrEnum):
    """How an app is attached."""

    HOST = "host"
    CONTAINER = "container"
    BRIDGE = "container/bridge"


class Protocol(enum.StrEnum):
    """Protocols of a port."""

    TCP = "tcp"
    UDP = "udp"
    BOTH = "udp,tcp"

    @property
    def each(self) -> tuple[str, ...]:
        """Return the single protocols."""
        return tuple(self.value.split(","))


class Network(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One network of an app."""

    mode: NetworkMode = NetworkMode.CONTAINER
    name: str | None = None
    labels: dict[str, str] = {}


class PortDefinition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A port of an app in host mode; *port* is its service port."""

    port: int = 0
    name: str | None = None
    protocol: Protocol = Protocol.TCP
    labels: dict[str, str] = {}


class PortMapping(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A port of a container with a network of its own."""

    container_port: int = 0
    host_port: int | None = None
    service_port: int = 0
    protocol: Protocol = Protocol.TCP
    name: str | None = None
    labels: dict[str, str] = {}
    network_names: tuple[str, ...] = ()


class Networked:
    """What apps and pods say alike of their networks; no struct of its own."""

    __slots__ = ()

    networks: tuple[Network, ...]

    @property
    def is_on_host_network(self) -> bool:
        """Tell whether tasks share the agent's network."""
        return all(network.mode is NetworkMode.HOST for network in self.networks)

    @property
    def is_bridged(self) -> bool:
        """Tell whether tasks sit behind the agent's bridge."""
        return any(network.mode is NetworkMode.BRIDGE for network in self.networks)

    @property
    def network_names(self) -> tuple[str, ...]:
        """Return the names of the networks that have one."""
        return tuple(network.name for network in self.networks if network.name)
