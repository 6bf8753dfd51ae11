"""Addresses of a virtual network for containers that somebody else attaches."""

from collections.abc import Callable
from typing import Any

from phalanx.core.error import UnavailableError
from phalanx.net.attachment.bridge import LeasedNetwork, interface_of
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.request import Command, Request
from phalanx.net.attachment.wish import NO_WISHES, pools
from phalanx.net.ipam.allocator import next_free
from phalanx.net.ipam.store import AddressStore


def carry_out_lease(
    addresses: AddressStore, request: Request, network: Callable[[], LeasedNetwork]
) -> dict[str, Any]:
    """Carry out a command of an IPAM plugin and return its result, empty for all but ADD.

    Such a lease has no link of ours; it is freed by DEL, by a GC of the CNI
    network that it was made for, or by a reboot.
    """
    match request.command:
        case Command.ADD:
            return _add(addresses, request, network())
        case Command.DEL:
            addresses.release(request.network, request.owner)
        case Command.CHECK:
            _check(addresses, request)
        case Command.GC:
            addresses.collect(request.network, request.valid, note=request.leases_of)
        case Command.STATUS:
            _status(addresses, network())
    return {}


def _add(addresses: AddressStore, request: Request, network: LeasedNetwork) -> dict[str, Any]:
    wanted = pools(network, request.wishes)
    if request.take_over:
        addresses.release(network.name, request.owner)
    given = addresses.reserve(
        network.name,
        wanted,
        request.owner,
        requested=request.wishes.addresses,
        note=request.leases_of,
    )
    ips = [
        {
            "address": str(interface_of(address, leased.subnet)),
            "gateway": str(leased.gateway),
        }
        for address, leased in zip(given, network.subnets, strict=True)
    ]
    return {"ips": ips}


def _check(addresses: AddressStore, request: Request) -> None:
    held = addresses.find(request.network, request.owner)
    if not held:
        raise CniError(Code.UNKNOWN_CONTAINER, f"{request.owner} holds no address")
    told = {address.ip for address in request.previous}
    if missing := [str(address) for address in held if address not in told]:
        raise CniError(Code.DIFFERS, f"prevResult lacks {', '.join(missing)}")


def _status(addresses: AddressStore, network: LeasedNetwork) -> None:
    taken = addresses.leases(network.name).keys()
    try:
        for pool in pools(network, NO_WISHES):
            next_free(pool, taken=taken)
    except UnavailableError as error:
        raise CniError(Code.NOT_AVAILABLE, str(error)) from error
