r"""Leases of addresses on disk, as host-local keeps them, for IPv4 and IPv6.

A network is a directory; a held address is a file named after it, with
``<container id>\r\n<ifname>`` in it; ``last_reserved_ip.N`` holds the address
that range set N gave last; the lock is ``flock`` on the file ``lock``. So the
two can take turns on one directory. What is ours alone: the file ``boot``
names the boot of the machine that the leases are of; after another, all of
them are void, as no namespace outlives one.
"""

import os
from fcntl import LOCK_EX, flock

from phalanx.net.netlink.route import address_text, packed_of

TYPE_CHECKING = False  # typing takes longer to load than a lease to write
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCK, BOOT, DRAFT = "lock", "boot", ".draft"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Range:
    """Addresses of one subnet, from first to last, with their gateway."""

    __slots__ = ("first", "gateway", "last", "length", "size", "subnet")

    def __init__(
        self, subnet: int, length: int, first: int, last: int, gateway: int, size: int
    ) -> None:
        self.subnet = subnet
        self.length = length
        self.first = first
        self.last = last
        self.gateway = gateway
        self.size = size  # of an address, in bytes

    def holds(self, address: int) -> bool:
        """Tell whether the address may be given."""
        return self.first <= address <= self.last and address != self.gateway

    def packed(self, address: int) -> bytes:
        """Return an address's bytes."""
        return address.to_bytes(self.size, "big")

    def __str__(self) -> str:
        return f"{address_text(self.packed(self.first))}-{address_text(self.packed(self.last))}"


class NothingFreeError(Exception):
    """Every address of a range set is held."""


class Leases:
    """The leases of one network, locked from `__enter__` to `__exit__`."""

    def __init__(self, directory: str, network: str) -> None:
        self._place = f"{directory}/{network}"
        self._lock = -1

    def __enter__(self) -> "Leases":
        os.makedirs(self._place, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(f"{self._place}/{LOCK}", flags, 0o600)
        try:
            flock(self._lock, LOCK_EX)
            self._void_after_boot()
        except BaseException:
            os.close(self._lock)  # or the undoing of this very ADD would wait for it
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def held(self) -> dict[str, str]:
        """Return owners, ``container:ifname``, by address."""
        found = {}
        for name in os.listdir(self._place):
            if name[:1] != "l" and name[:1] != "." and name != BOOT:
                container, _, ifname = _text(f"{self._place}/{name}").strip().partition("\r\n")
                found[name] = f"{container.strip()}:{ifname.strip()}"
        return found

    def reserve(self, owner: str, ranges: list[Range], position: int, wanted: int | None) -> bytes:
        """Lease an address of a range set; raise NothingFreeError, or ValueError for a bad wish."""
        if wanted is not None:
            for each in ranges:
                if each.holds(wanted):
                    if not self._take(address_text(each.packed(wanted)), owner):
                        raise NothingFreeError(
                            f"requested IP address {address_text(each.packed(wanted))} "
                            f"is not available in range set {_names(ranges)}"
                        )
                    return each.packed(wanted)
            raise ValueError(f"requested IP address is not in range set {_names(ranges)}")
        path = f"{self._place}/last_reserved_ip.{position}"
        taken = set(os.listdir(self._place))
        for each, address in _round(ranges, _text(path).strip()):
            name = address_text(each.packed(address))
            if name not in taken and self._take(name, owner):
                draft = f"{self._place}/.last.{position}"
                _write(draft, name)
                os.replace(draft, path)
                return each.packed(address)
        raise NothingFreeError(f"no IP addresses available in range set: {_names(ranges)}")

    def free(self, is_over: "Callable[[str], bool]") -> list[str]:
        """Free every lease whose owner is over; return the addresses."""
        gone = [name for name, owner in self.held().items() if is_over(owner)]
        for name in gone:
            _unlink(f"{self._place}/{name}")
        return gone

    def _take(self, name: str, owner: str) -> bool:
        """Put the lease in place whole, if nobody holds the address."""
        container, _, ifname = owner.rpartition(":")
        draft = f"{self._place}/{DRAFT}"
        _write(draft, f"{container}\r\n{ifname}")
        try:
            os.link(draft, f"{self._place}/{name}")
        except FileExistsError:
            return False
        finally:
            _unlink(draft)
        return True

    def _void_after_boot(self) -> None:
        now, then = _text(BOOT_ID).strip(), _text(f"{self._place}/{BOOT}").strip()
        if now == then:
            return
        if then:
            self.free(lambda _: True)
        _write(f"{self._place}/{BOOT}", now)


def exists(directory: str, network: str) -> bool:
    """Tell whether the network ever had a lease."""
    return os.path.isdir(f"{directory}/{network}")


def networks(directory: str) -> list[str]:
    """Return the networks that ever had a lease."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _round(ranges: list[Range], last: str) -> "Iterator[tuple[Range, int]]":
    """Yield every address of a range set once, those after *last* first."""
    start, position = -1, 0
    if last:
        try:
            found = int.from_bytes(packed_of(last), "big")
        except ValueError:
            found = -1
        for index, each in enumerate(ranges):
            if each.first <= found <= each.last:
                start, position = found, index
    order = ranges[position:] + ranges[:position]
    for index, each in enumerate(order):
        for address in range(start + 1 if index == 0 and start >= 0 else each.first, each.last + 1):
            if address != each.gateway:
                yield each, address
    if start >= 0:
        for address in range(order[0].first, start + 1):
            if address != order[0].gateway:
                yield order[0], address


def _names(ranges: list[Range]) -> str:
    return ",".join(map(str, ranges))


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
