"""The CNI commands, once it is known what the network is on this node."""

from functools import partial
from ipaddress import IPv4Address
from typing import Any

import structlog

from phalanx.core.error import ConflictError, DataplaneError, UnavailableError
from phalanx.net.attachment.bridge import LeasedNetwork
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.links import Links
from phalanx.net.attachment.ports import HostPorts
from phalanx.net.attachment.request import Request
from phalanx.net.attachment.result import convert, result_of
from phalanx.net.attachment.spec import plan, veth_name
from phalanx.net.ipam.allocator import next_free
from phalanx.net.ipam.store import AddressStore

log = structlog.get_logger()


class Attachments:
    """Attaches containers of one node to its networks; blocking, one call at a time.

    Nothing is remembered: leases are on disk, the rest is in the kernel.
    """

    def __init__(self, links: Links, addresses: AddressStore, ports: HostPorts) -> None:
        self._links = links
        self._ports = ports
        self._addresses = addresses

    def add(self, request: Request, network: LeasedNetwork) -> dict[str, Any]:
        """Attach a container and return the result in the version that is asked for."""
        owner = request.owner
        address = self._lease(request, network)
        try:
            spec = plan(owner, network, address, netns=request.netns_paths)
            result = convert(result_of(spec, netns=request.netns), request.version)
            self._links.attach(spec)
            try:
                self._ports.open(
                    network.name, owner, spec.address, request.ports, bridge=spec.bridge.name
                )
            except BaseException:
                self._links.detach(spec.veth)
                raise
        except BaseException:
            self._addresses.release(network.name, owner)
            raise
        return result

    def _lease(self, request: Request, network: LeasedNetwork) -> IPv4Address:
        """Lease an address; take a lease over that an ADD left which died on its way."""
        reserve = partial(
            self._addresses.reserve,
            network.name,
            network.subnet,
            request.owner,
            gateway=network.gateway,
            requested=request.address,
        )
        try:
            return reserve()
        except ConflictError:
            stale = self._addresses.find(network.name, request.owner)
            if stale is None or self._links.has(veth_name(request.owner)):
                raise
        self._addresses.release(network.name, request.owner)
        log.info("stale_lease_freed", container=str(request.owner), address=str(stale))
        return reserve()

    def delete(self, request: Request) -> None:
        """Detach a container and free its address; neither has to be there.

        The address goes last: while the link lives nobody else may have it.
        """
        self._ports.close(request.network, request.owner)
        self._links.detach(veth_name(request.owner))
        self._addresses.release(request.network, request.owner)

    def check(self, request: Request, network: LeasedNetwork) -> None:
        """Raise CniError unless the attachment is as ADD left it."""
        address = self._addresses.find(network.name, request.owner)
        if address is None:
            raise CniError(Code.UNKNOWN_CONTAINER, f"{request.owner} holds no address")
        spec = plan(request.owner, network, address, netns=request.netns_paths)
        faults = self._links.differences(spec) + self._ports.missing(network.name, request.owner)
        if spec.address not in request.previous:
            faults.append(f"prevResult lacks {spec.address}")
        if faults:
            raise CniError(Code.DIFFERS, f"{request.owner}: {'; '.join(faults)}")

    def collect(self, request: Request) -> None:
        """Detach everyone on the network who is not listed as valid.

        A refusal does not hold up the others; it is raised when they are done.
        """
        self._ports.close_others(request.network, request.valid)
        keep = {veth_name(owner) for owner in request.valid}
        gone = [veth for veth in self._links.veths(request.network) if veth not in keep]
        refusals: dict[str, DataplaneError] = {}
        for veth in gone:
            try:
                self._links.detach(veth)
            except DataplaneError as error:
                refusals[veth] = error
        held = self._addresses.leases(request.network).values()
        stuck = {owner for owner in held if veth_name(owner) in refusals}
        freed = self._addresses.collect(request.network, request.valid | stuck)
        if gone or freed:
            log.info("garbage_collected", network=request.network, links=gone, leases=len(freed))
        if refusals:
            raise CniError(Code.KERNEL, "; ".join(map(str, refusals.values())))

    def sweep(self) -> None:
        """Free every lease whose interface has no link: left by a reboot, or by an ADD that died.

        Call it while no command is under way. A lease that names no interface
        is somebody else's.
        """
        for network in self._addresses.networks():
            held = set(self._addresses.leases(network).values())
            for owner in held:
                if owner.ifname and not self._links.has(veth_name(owner)):
                    self._ports.close(network, owner)
                    freed = self._addresses.release(network, owner)
                    log.info(
                        "stale_lease_freed",
                        container=str(owner),
                        addresses=[str(each) for each in freed],
                    )

    def status(self, network: LeasedNetwork) -> None:
        """Raise CniError unless an ADD could be served now."""
        taken = self._addresses.leases(network.name).keys()
        try:
            next_free(network.subnet, gateway=network.gateway, taken=taken)
        except UnavailableError as error:
            raise CniError(Code.NOT_AVAILABLE, str(error)) from error
