r"""Who holds which address, on disk, bit by bit as the reference plugin host-local keeps it.

A network is a directory; a held address is a file named after it with
``<container id>\r\n<ifname>`` in it; ``last_reserved_ip.N`` holds the address
that pool N gave last; the lock is ``flock`` on the file ``lock``. So leases
outlive every process, and the two can take turns on one directory. What is
ours alone: the file ``boot`` names the boot that the leases are of.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from phalanx.core.error import ConflictError, DataplaneError
from phalanx.net.ipam.allocator import check_requested, next_free
from phalanx.net.ipam.owner import Owner
from phalanx.net.ipam.pool import Pool
from phalanx.net.model.objects import IPAddress
from phalanx.net.netlink.file import overwrite

LAST = "last_reserved_ip"
LOCK, BOOT = "lock", "boot"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DRAFT = ".draft"  # a lease before it has its name, so that no lease is ever half written


class AddressStore:
    """The leases of every network of this node, below one directory; blocking.

    *boot* names the boot of the machine: a lease of another one is void, as no
    container outlives a boot.
    """

    def __init__(self, directory: Path, *, boot: str = "") -> None:
        self._directory = directory
        self._boot = boot

    def reserve(
        self,
        network: str,
        pools: Sequence[Pool],
        owner: Owner,
        *,
        requested: Sequence[IPAddress] = (),
        note: str = "",
    ) -> tuple[IPAddress, ...]:
        """Lease an address of each pool to *owner*: the requested one of the family, or the next.

        *note* says whom the lease is for when no link of ours goes with it.

        Raises ConflictError for an owner that holds an address of the network
        already, and InvalidError, ConflictError or UnavailableError when there
        is nothing to give; then nothing is leased.
        """
        with self._locked(network) as place:
            leases = _read(place)
            for held, other in leases.items():
                if other == owner:
                    raise ConflictError(f"{owner} holds {held} already")
            chosen = []
            for number, pool in enumerate(pools):
                wanted = next((a for a in requested if a.version == pool.subnet.version), None)
                if wanted is None:
                    last = _parse_address(_text(f"{place}/{LAST}.{number}"))
                    chosen.append(next_free(pool, taken=leases.keys(), last=last))
                else:
                    check_requested(wanted, pool, taken=leases.keys())
                    chosen.append(wanted)
            _write(place, chosen, owner, note)
            return tuple(chosen)

    def find(self, network: str, owner: Owner) -> tuple[IPAddress, ...]:
        """Return the addresses that *owner* holds, IPv4 first."""
        held = (address for address, other in self.leases(network).items() if other == owner)
        return tuple(sorted(held, key=lambda address: address.version))

    def leases(self, network: str) -> Mapping[IPAddress, Owner]:
        """Return every lease of a network; of an unknown one, none."""
        place = self._place(network)
        return _read(place) if place.is_dir() else {}

    def networks(self) -> list[str]:
        """Return the names of all networks that ever had a lease, in order."""
        try:
            return sorted(entry.name for entry in os.scandir(self._directory) if entry.is_dir())
        except FileNotFoundError:
            return []

    def release(self, network: str, owner: Owner) -> Mapping[IPAddress, Owner]:
        """Free what *owner* holds and return it; holding nothing is no error.

        A lease that names no interface, as old releases of host-local wrote
        them, belongs to every interface of its container.
        """
        return self._free(network, lambda other: other in (owner, Owner(owner.container_id, "")))

    def noted(self, network: str) -> Mapping[Owner, str]:
        """Return the owners of leases with a note, and the notes."""
        place = self._place(network)
        return _notes(place) if place.is_dir() else {}

    def collect(
        self, network: str, valid: Set[Owner], *, note: str = ""
    ) -> Mapping[IPAddress, Owner]:
        """Free the leases with this *note* whose owner is not in *valid*; return what was freed."""
        containers, notes = {owner.container_id for owner in valid}, self.noted(network)
        return self._free(
            network,
            lambda other: (
                notes.get(other, "") == note
                and other not in valid
                and (other.ifname != "" or other.container_id not in containers)
            ),
        )

    def _free(self, network: str, is_over: Callable[[Owner], bool]) -> Mapping[IPAddress, Owner]:
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
                self._void_after_boot(place)
                yield place
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataplaneError(f"{place}: {error}", table="ipam", errno=error.errno) from error

    def _void_after_boot(self, place: Path) -> None:
        if not self._boot or (then := _text(f"{place}/{BOOT}").strip()) == self._boot:
            return
        for address in _read(place) if then else ():
            (place / str(address)).unlink(missing_ok=True)
        _put(place, BOOT, self._boot)


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return BOOT_ID.read_text().strip()


def _write(place: Path, addresses: Sequence[IPAddress], owner: Owner, note: str) -> None:
    """Write the leases, all or none: each is whole when it has its name."""
    done: list[Path] = []
    try:
        lines = [owner.container_id, owner.ifname, *([note] if note else [])]
        (place / DRAFT).write_text("\r\n".join(lines), newline="")
        for number, address in enumerate(addresses):
            os.link(place / DRAFT, path := place / str(address))
            done.append(path)
            overwrite(f"{place}/{LAST}.{number}", str(address).encode())
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise
    finally:
        (place / DRAFT).unlink(missing_ok=True)


def _put(place: Path, name: str, text: str) -> None:
    """Write a small file whole: a full disk leaves the one before."""
    draft = place / f".{name}"
    try:
        draft.write_text(text)
        draft.replace(place / name)
    finally:
        draft.unlink(missing_ok=True)


def _read(place: Path) -> dict[IPAddress, Owner]:
    """Return every lease; a file that was read before and is the same is not read again."""
    leases: dict[IPAddress, Owner] = {}
    with os.scandir(place) as entries:
        for entry in entries:
            if (address := _parse_address(entry.name)) is None:
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            leases[address] = _owner_of(
                entry.path, status.st_ino, status.st_ctime_ns, status.st_size
            )
    return leases


@lru_cache(65536)
def _owner_of(path: str, inode: int, changed: int, size: int) -> Owner:
    """Return whose a lease is; once written it stays as it is, so these say whether it is it."""
    del inode, changed, size
    return _owner(path)[0]


def _notes(place: Path) -> dict[Owner, str]:
    names = (name for name in os.listdir(place) if _parse_address(name) is not None)
    return {owner: note for owner, note in (_owner(f"{place}/{name}") for name in names) if note}


def _owner(path: str) -> tuple[Owner, str]:
    """Return whose a lease is, and its note."""
    container_id, _, rest = _text(path).strip().partition("\r\n")
    ifname, _, note = rest.partition("\r\n")
    return Owner(container_id.strip(), ifname.strip()), note.strip()


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


@lru_cache(65536)
def _parse_address(text: str) -> IPAddress | None:
    if text[:1] in ("", ".", "l"):  # a draft, last_reserved_ip, lock
        return None
    with suppress(ValueError):
        return ip_address(text.strip())
    return None
