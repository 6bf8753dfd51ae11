"""Leases on disk, as the reference plugin host-local reads and writes them."""

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from phalanx.core.error import ConflictError, DataplaneError, InvalidError
from phalanx.net.ipam.owner import Owner
from phalanx.net.ipam.pool import Pool
from phalanx.net.ipam.store import AddressStore
from phalanx.net.netlink.file import overwrite

POOL = Pool(IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1"))
A, B = Owner("a", "eth0"), Owner("b", "eth0")


def reserve(store: AddressStore, owner: Owner, requested: str | None = None) -> str:
    wanted = [IPv4Address(requested)] if requested else []
    [given] = store.reserve("dcos", [POOL], owner, requested=wanted)
    return str(given)


def test_files_are_those_of_host_local(tmp_path: Path) -> None:
    reserve(AddressStore(tmp_path), A)

    place = tmp_path / "dcos"
    assert (place / "9.0.1.2").read_bytes() == b"a\r\neth0"
    assert (place / "last_reserved_ip.0").read_bytes() == b"9.0.1.2"
    assert sorted(os.listdir(place)) == ["9.0.1.2", "last_reserved_ip.0", "lock"]


def test_leases_of_host_local_are_honoured(tmp_path: Path) -> None:
    place = tmp_path / "dcos"
    place.mkdir()
    (place / "9.0.1.7").write_bytes(b"other\r\neth0")
    (place / "last_reserved_ip.0").write_bytes(b"9.0.1.6")
    store = AddressStore(tmp_path)

    assert reserve(store, A) == "9.0.1.8"
    assert store.find("dcos", Owner("other", "eth0")) == (IPv4Address("9.0.1.7"),)


def test_leases_outlive_the_store(tmp_path: Path) -> None:
    reserve(AddressStore(tmp_path), A)

    again = AddressStore(tmp_path)

    assert again.leases("dcos") == {IPv4Address("9.0.1.2"): A}
    assert reserve(again, B) == "9.0.1.3"


def test_freed_address_is_given_again_only_after_the_round(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)
    reserve(store, A)
    store.release("dcos", A)

    assert reserve(store, A) == "9.0.1.3"


def test_owner_cannot_hold_two(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)
    reserve(store, A)

    with pytest.raises(ConflictError, match=r"a/eth0 holds 9\.0\.1\.2 already"):
        reserve(store, A)
    assert reserve(store, Owner("a", "eth1")) == "9.0.1.3"


def test_requested_address_is_given_and_moves_the_round(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)

    assert reserve(store, A, "9.0.1.50") == "9.0.1.50"
    assert reserve(store, B) == "9.0.1.51"
    with pytest.raises(ConflictError, match="is taken"):
        reserve(store, Owner("c", "eth0"), "9.0.1.50")


def test_release_is_idempotent_and_frees_only_its_owner(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)
    reserve(store, A)
    reserve(store, B)

    assert store.release("dcos", A) == {IPv4Address("9.0.1.2"): A}
    assert store.release("dcos", A) == {}
    assert store.release("nowhere", A) == {}
    assert store.leases("dcos") == {IPv4Address("9.0.1.3"): B}
    assert not (tmp_path / "nowhere").exists()


def test_lease_without_ifname_belongs_to_every_interface(tmp_path: Path) -> None:
    place = tmp_path / "dcos"
    place.mkdir()
    (place / "9.0.1.9").write_bytes(b"a")

    store = AddressStore(tmp_path)

    assert store.collect("dcos", {A}) == {}
    assert store.release("dcos", A) == {IPv4Address("9.0.1.9"): Owner("a", "")}


def test_collect_frees_all_but_the_valid(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)
    for owner in (A, B, Owner("a", "eth1")):
        reserve(store, owner)

    freed = store.collect("dcos", {A})

    assert set(freed.values()) == {B, Owner("a", "eth1")}
    assert set(store.leases("dcos").values()) == {A}


def test_networks_do_not_share_leases(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)
    reserve(store, A)

    blue = store.reserve("blue", [POOL], A)

    assert blue == (IPv4Address("9.0.1.2"),)


def test_parallel_reservations_differ(tmp_path: Path) -> None:
    def take(number: int) -> str:
        return reserve(AddressStore(tmp_path), Owner(f"c{number}", "eth0"))

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(take, range(40)))

    assert len(set(given)) == 40


def test_lock_of_another_process_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "dcos").mkdir()
    other = os.open(tmp_path / "dcos" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    given: list[str] = []
    thread = threading.Thread(target=lambda: given.append(reserve(AddressStore(tmp_path), A)))

    thread.start()
    thread.join(0.1)
    waited = list(given)
    os.close(other)
    thread.join(10)

    assert waited == []
    assert given == ["9.0.1.2"]


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataplaneError, match="file/dcos"):
        reserve(AddressStore(tmp_path / "file"), A)


POOL6 = Pool(IPv6Network("fd01:b::/80"), IPv6Address("fd01:b::1"))


def test_both_families_are_leased_together(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)

    given = store.reserve("dcos", [POOL, POOL6], A)

    assert given == (IPv4Address("9.0.1.2"), IPv6Address("fd01:b::2"))
    assert store.find("dcos", A) == given
    assert (tmp_path / "dcos" / "last_reserved_ip.1").read_text() == "fd01:b::2"
    assert set(store.release("dcos", A)) == set(given)


def test_what_one_family_lacks_is_given_of_none(tmp_path: Path) -> None:
    store = AddressStore(tmp_path)

    with pytest.raises(InvalidError, match="gateway"):
        store.reserve("dcos", [POOL, POOL6], A, requested=[IPv6Address("fd01:b::1")])

    assert store.leases("dcos") == {}


def test_leases_of_another_boot_are_void(tmp_path: Path) -> None:
    reserve(AddressStore(tmp_path, boot="one"), A)
    same, next_boot = (AddressStore(tmp_path, boot=boot) for boot in ("one", "two"))

    with pytest.raises(ConflictError, match="holds"):
        reserve(same, A)
    assert reserve(next_boot, A) == "9.0.1.3"


@pytest.mark.parametrize("full", ["9.0.1.2", "last_reserved_ip.0", ".draft"])
def test_full_disk_leaves_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    store = AddressStore(tmp_path)
    (tmp_path / "dcos").mkdir()
    link, write = os.link, Path.write_text

    def refuse(path: object) -> None:
        if Path(str(path)).name == full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full_link(source: Path, target: Path) -> None:
        refuse(target)
        link(source, target)

    def full_write(path: Path, text: str, **more: Any) -> int:
        refuse(path)
        return write(path, text, **more)

    def full_overwrite(path: str, raw: bytes) -> None:
        refuse(path)
        overwrite(path, raw)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full_link)
        patch.setattr(Path, "write_text", full_write)
        patch.setattr("phalanx.net.ipam.store.overwrite", full_overwrite)
        with pytest.raises(DataplaneError, match="No space left"):
            store.reserve("dcos", [POOL, POOL6], A)

    assert store.leases("dcos") == {}
    assert not [name for name in os.listdir(tmp_path / "dcos") if name.startswith(".")]
    assert reserve(store, A) == "9.0.1.2"
