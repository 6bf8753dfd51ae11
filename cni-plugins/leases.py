r"""Leases of addresses on disk, as host-local keeps them, for IPv4 and IPv6.

A network is a directory; a held address is a file named after it, with
``<container id>\r\n<ifname>`` in it; ``last_reserved_ip.N`` holds the address
that range set N gave last; the lock is ``flock`` on the file ``lock``. So the
two can take turns on one directory. What is ours alone: the file ``boot``
names the boot of the machine that the leases are of; after another, all of
them are void, as no namespace outlives one.
"""

import posix
from fcntl import LOCK_EX, flock

from phalanx.net.netlink import file
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
        file.make_folders(self._place)
        self._lock = file.lock_file(f"{self._place}/{LOCK}")
        try:
            flock(self._lock, LOCK_EX)
            self._void_after_boot()
        except BaseException:
            posix.close(self._lock)  # or the undoing of this very ADD would wait for it
            raise
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self._lock)

    def held(self) -> dict[str, str]:
        """Return owners, ``container:ifname``, by address."""
        found = {}
        for name in file.names_in(self._place):
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
        taken = set(file.names_in(self._place))
        for each, address in _round(ranges, _text(path).strip()):
            name = address_text(each.packed(address))
            if name not in taken and self._take(name, owner):
                file.overwrite(path, name.encode())
                return each.packed(address)
        raise NothingFreeError(f"no IP addresses available in range set: {_names(ranges)}")

    def free(self, is_over: "Callable[[str], bool]") -> list[str]:
        """Free every lease whose owner is over; return the addresses."""
        gone = [name for name, owner in self.held().items() if is_over(owner)]
        for name in gone:
            file.remove(f"{self._place}/{name}")
        return gone

    def _take(self, name: str, owner: str) -> bool:
        """Put the lease in place whole, if nobody holds the address."""
        container, _, ifname = owner.rpartition(":")
        draft = f"{self._place}/{DRAFT}"
        file.write(draft, f"{container}\r\n{ifname}".encode(), 0o644)
        try:
            posix.link(draft, f"{self._place}/{name}")
        except FileExistsError:
            return False
        finally:
            file.remove(draft)
        return True

    def _void_after_boot(self) -> None:
        now, then = _text(BOOT_ID).strip(), _text(f"{self._place}/{BOOT}").strip()
        if now == then:
            return
        if then:
            self.free(lambda _: True)
        file.write(f"{self._place}/{BOOT}", now.encode(), 0o644)


def exists(directory: str, network: str) -> bool:
    """Tell whether the network ever had a lease."""
    return file.exists(f"{directory}/{network}")


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
    return file.read(path).decode(errors="replace")
