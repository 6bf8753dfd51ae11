r"""Who holds which address, on disk, bit by bit as the reference plugin host-local keeps it.

A network is a directory; a held address is a file named after it with
``<container id>\r\n<ifname>`` in it; ``last_reserved_ip.0`` holds the address
given last; the lock is ``flock`` on the file ``lock``. So leases outlive every
process, and the two can take turns on one directory.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path

from phalanx.core.error import ConflictError, DataplaneError
from phalanx.net.ipam.allocator import check_requested, next_free
from phalanx.net.ipam.owner import Owner

LAST = "last_reserved_ip.0"
LOCK = "lock"
DRAFT = ".draft"  # a lease before it has its name, so that no lease is ever half written


class AddressStore:
    """The leases of every network of this node, below one directory; blocking."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def reserve(
        self,
        network: str,
        subnet: IPv4Network,
        owner: Owner,
        *,
        gateway: IPv4Address,
        requested: IPv4Address | None = None,
    ) -> IPv4Address:
        """Lease an address to *owner* and return it: the requested one, or the next free.

        Raises ConflictError for an owner that holds an address of the network
        already, and InvalidError, ConflictError or UnavailableError when there
        is nothing to give.
        """
        with self._locked(network) as place:
            leases = _read(place)
            for held, other in leases.items():
                if other == owner:
                    raise ConflictError(f"{owner} holds {held} already")
            if requested is None:
                last = _parse_address(_text(f"{place}/{LAST}"))
                address = next_free(subnet, gateway=gateway, taken=leases.keys(), last=last)
            else:
                check_requested(requested, subnet, gateway=gateway, taken=leases.keys())
                address = requested
            (place / DRAFT).write_text(f"{owner.container_id}\r\n{owner.ifname}", newline="")
            os.link(place / DRAFT, place / str(address))
            (place / DRAFT).unlink()
            (place / LAST).write_text(str(address))
            return address

    def find(self, network: str, owner: Owner) -> IPv4Address | None:
        """Return the address that *owner* holds, or None."""
        return next((a for a, other in self.leases(network).items() if other == owner), None)

    def leases(self, network: str) -> Mapping[IPv4Address, Owner]:
        """Return every lease of a network; of an unknown one, none."""
        place = self._place(network)
        return _read(place) if place.is_dir() else {}

    def networks(self) -> list[str]:
        """Return the names of all networks that ever had a lease, in order."""
        try:
            return sorted(entry.name for entry in os.scandir(self._directory) if entry.is_dir())
        except FileNotFoundError:
            return []

    def release(self, network: str, owner: Owner) -> Mapping[IPv4Address, Owner]:
        """Free what *owner* holds and return it; holding nothing is no error.

        A lease that names no interface, as old releases of host-local wrote
        them, belongs to every interface of its container.
        """
        return self._free(network, lambda other: other in (owner, Owner(owner.container_id, "")))

    def collect(self, network: str, valid: Set[Owner]) -> Mapping[IPv4Address, Owner]:
        """Free every lease whose owner is not in *valid* and return what was freed."""
        containers = {owner.container_id for owner in valid}
        return self._free(
            network,
            lambda other: (
                other not in valid and (other.ifname != "" or other.container_id not in containers)
            ),
        )

    def _free(self, network: str, is_over: Callable[[Owner], bool]) -> Mapping[IPv4Address, Owner]:
        if not self._place(network).is_dir():
            return {}
        with self._locked(network) as place:
            over = {a: owner for a, owner in _read(place).items() if is_over(owner)}
            for address in over:
                (place / str(address)).unlink(missing_ok=True)
            return over

    def _place(self, network: str) -> Path:
        return self._directory / network

    @contextmanager
    def _locked(self, network: str) -> Iterator[Path]:
        place = self._place(network)
        try:
            place.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                (place / DRAFT).unlink(missing_ok=True)
                yield place
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataplaneError(f"{place}: {error}", table="ipam", errno=error.errno) from error


def _read(place: Path) -> dict[IPv4Address, Owner]:
    leases: dict[IPv4Address, Owner] = {}
    for name in os.listdir(place):
        if (address := _parse_address(name)) is not None:
            container_id, _, ifname = _text(f"{place}/{name}").strip().partition("\r\n")
            leases[address] = Owner(container_id.strip(), ifname.strip())
    return leases


def _text(path: str) -> str:
    """Return what a file holds, nothing if it is gone; an ADD may read hundreds."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def _parse_address(text: str) -> IPv4Address | None:
    with suppress(AddressValueError):
        return IPv4Address(text)
    return None
