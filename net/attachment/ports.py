"""Host ports of attachments: to the kernel's maps, and a twin in memory."""

import json
import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phalanx.core.error import ConflictError, DataplaneError
from phalanx.net.attachment.bridge import Interface
from phalanx.net.attachment.spec import veth_name
from phalanx.net.hostport.guard import guard_elements
from phalanx.net.hostport.orphan import remove_orphans
from phalanx.net.hostport.port import Mapping, mapping_elements
from phalanx.net.hostport.store import DIRECTORY, Elements, TakenError
from phalanx.net.ipam.owner import Owner
from phalanx.net.model.objects import IPAddress
from phalanx.net.netlink.wire import NETFILTER, Conversation

PLUGIN = "phalanx-net"
TABLE = "hostport"


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the node that leads to one of the container."""

    host_port: int
    container_port: int
    protocol: str = "tcp"  # tcp, udp or sctp
    host: IPAddress | None = None  # an address of the node; None for all of them


class HostPorts(Protocol):
    """The host ports of one node's attachments; blocking, one call at a time."""

    def open(
        self,
        network: str,
        owner: Owner,
        addresses: Sequence[Interface],
        mappings: Sequence[PortMapping],
        *,
        bridge: str,
        mac: str = "",
    ) -> None:
        """Map ports to *addresses* and hold the container to them and *mac*, all or none.

        Raises ConflictError when a port is somebody else's, DataplaneError for
        any other refusal.
        """
        ...

    def close(self, network: str, owner: Owner) -> None:
        """Take the ports of *owner* away; there don't have to be any."""
        ...

    def close_others(self, network: str, valid: Set[Owner]) -> None:
        """Take the ports away of everyone on the network who is not valid."""
        ...

    def missing(self, network: str, owner: Owner) -> list[str]:
        """Say which of the ports that were opened are not mapped any more."""
        ...

    def sweep(self) -> None:
        """Forget what is of nodes that are gone."""
        ...


class KernelHostPorts:
    """Host ports as elements of the table ``phalanx_cni``.

    It works in the network namespace of the thread that calls it. *directory*
    is where whose the elements are is kept. Each thread's socket stays open:
    the kernel closes one only when all that was removed by anybody is freed.
    """

    def __init__(self, *, directory: Path = Path(DIRECTORY)) -> None:
        self._directory = str(directory)
        self._of_thread = threading.local()

    def open(
        self,
        network: str,
        owner: Owner,
        addresses: Sequence[Interface],
        mappings: Sequence[PortMapping],
        *,
        bridge: str,
        mac: str = "",
    ) -> None:
        """Map ports, let connections to 127.0.0.1 out over *bridge*, and guard the veth."""
        wanted = [
            Mapping(
                each.host.packed if each.host else b"",
                each.host_port,
                each.container_port,
                each.protocol,
            )
            for each in mappings
        ]
        elements = [
            element
            for each in addresses
            for element in mapping_elements(wanted, each.ip.packed, each.network.prefixlen)
        ]
        if mac:
            raw = bytes.fromhex(mac.replace(":", ""))
            elements += guard_elements(
                veth_name(owner), raw, [each.ip.packed for each in addresses]
            )
        with self._of(network, owner) as kept:
            kept.put(elements)
        if not wanted:
            return
        with suppress(OSError):
            Path("/proc/sys/net/ipv4/conf", bridge, "route_localnet").write_text("1")

    def close(self, network: str, owner: Owner) -> None:
        """Remove the elements."""
        with self._of(network, owner) as kept:
            kept.drop()

    def close_others(self, network: str, valid: Set[Owner]) -> None:
        """Remove the elements of everyone who is not valid."""
        with self._of(network, Owner("", "")) as kept:
            kept.drop_others({_name(owner) for owner in valid})

    def missing(self, network: str, owner: Owner) -> list[str]:
        """Ask the kernel for each element."""
        with self._of(network, owner) as kept:
            return kept.missing()

    def sweep(self) -> None:
        """Remove what is kept of other network namespaces that are gone."""
        remove_orphans(directory=Path(self._directory))

    @contextmanager
    def _of(self, network: str, owner: Owner) -> Iterator[Elements]:
        kept = Elements(
            network,
            _name(owner),
            PLUGIN,
            render=json.dumps,
            parse=json.loads,
            directory=self._directory,
            talk=self._talk(),
        )
        try:
            yield kept
        except TakenError as error:
            raise ConflictError(str(error)) from error
        except OSError as error:
            del self._of_thread.talk  # of an answer, some may be left in it
            raise DataplaneError(str(error), table=TABLE, errno=error.errno) from error

    def _talk(self) -> Conversation:
        if (talk := getattr(self._of_thread, "talk", None)) is None:
            self._of_thread.talk = talk = Conversation(NETFILTER)
        return talk


class MemoryHostPorts:
    """Host ports that behave like KernelHostPorts."""

    def __init__(self) -> None:
        self.opened: dict[tuple[str, Owner], tuple[PortMapping, ...]] = {}

    def open(
        self,
        network: str,
        owner: Owner,
        addresses: Sequence[Interface],
        mappings: Sequence[PortMapping],
        *,
        bridge: str,
        mac: str = "",
    ) -> None:
        """Map ports."""
        others = {
            (port.host, port.host_port, port.protocol)
            for ports in self.opened.values()
            for port in ports
        }
        for each in mappings:
            if (each.host, each.host_port, each.protocol) in others:
                raise ConflictError(f"host port {each.host_port}/{each.protocol} is taken already")
        if mappings:
            self.opened[network, owner] = tuple(mappings)

    def close(self, network: str, owner: Owner) -> None:
        """Forget the ports of an owner."""
        self.opened.pop((network, owner), None)

    def close_others(self, network: str, valid: Set[Owner]) -> None:
        """Forget the ports of everyone who is not valid."""
        for place, owner in list(self.opened):
            if place == network and owner not in valid:
                del self.opened[place, owner]

    def missing(self, network: str, owner: Owner) -> list[str]:
        """Miss nothing."""
        del network, owner
        return []

    def sweep(self) -> None:
        """Know of one node only."""


def _name(owner: Owner) -> str:
    return f"{owner.container_id}:{owner.ifname}"
