"""The CNI commands, once it is known what the network is on this node."""

from functools import partial
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
from phalanx.net.attachment.wish import NO_WISHES, pools
from phalanx.net.ipam.allocator import next_free
from phalanx.net.ipam.store import AddressStore
from phalanx.net.model.objects import IPAddress

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
        wishes = request.wishes
        addresses = self._lease(request, network)
        try:
            spec = plan(
                owner,
                network,
                addresses,
                mac=wishes.mac,
                netns=request.netns_paths,
                limits=wishes.limits,
            )
            result = result_of(spec, netns=request.netns, dns=wishes.dns)
            result = convert(result, request.version)
            self._links.attach(spec)
            try:
                self._ports.open(
                    network.name,
                    owner,
                    spec.addresses,
                    request.ports,
                    bridge=spec.bridge.name,
                    mac=spec.mac,
                )
            except BaseException:
                self._links.detach(spec.veth)
                raise
        except BaseException:
            self._addresses.release(network.name, owner)
            raise
        return result

    def _lease(self, request: Request, network: LeasedNetwork) -> tuple[IPAddress, ...]:
        """Lease the addresses; take leases over that an ADD left which died on its way."""
        reserve = partial(
            self._addresses.reserve,
            network.name,
            pools(network, request.wishes),
            request.owner,
            requested=request.wishes.addresses,
        )
        try:
            return reserve()
        except ConflictError:
            stale = self._addresses.find(network.name, request.owner)
            if not stale or self._links.has(veth_name(request.owner)):
                raise
        self._ports.close(network.name, request.owner)
        self._addresses.release(network.name, request.owner)
        log.info(
            "stale_lease_freed", container=str(request.owner), addresses=[str(a) for a in stale]
        )
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
        addresses = self._addresses.find(network.name, request.owner)
        if not addresses:
            raise CniError(Code.UNKNOWN_CONTAINER, f"{request.owner} holds no address")
        spec = plan(
            request.owner,
            network,
            addresses,
            mac=request.previous_mac,
            netns=request.netns_paths,
            limits=request.wishes.limits,
        )
        faults = self._links.differences(spec) + self._ports.missing(network.name, request.owner)
        there, told = set(spec.addresses), set(request.previous)
        faults += [
            f"prevResult lacks {address}" for address in spec.addresses if address not in told
        ]
        faults += [
            f"{address} is not leased" for address in request.previous if address not in there
        ]
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

    @property
    def addresses(self) -> AddressStore:
        """Return the leases."""
        return self._addresses

    def sweep(self) -> None:
        """Free every lease whose interface has no link: left by a reboot, or by an ADD that died.

        Call it while no command is under way. A lease that names no interface
        is somebody else's.
        """
        self._ports.sweep()
        for network in self._addresses.networks():
            held = set(self._addresses.leases(network).values())
            for owner in held - self._addresses.noted(network).keys():
                if owner.ifname and not self._links.has(veth_name(owner)):
                    self._ports.close(network, owner)
                    self._links.detach(veth_name(owner))  # what limited it may be left
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
            for pool in pools(network, NO_WISHES):
                next_free(pool, taken=taken)
        except UnavailableError as error:
            raise CniError(Code.NOT_AVAILABLE, str(error)) from error
