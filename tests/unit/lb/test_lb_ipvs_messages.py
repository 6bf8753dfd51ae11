"""What goes to the kernel's IPVS and what comes back, as bytes, and the order of a change."""

import sys
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.lb.ipvs.commands import commands
from phalanx.lb.ipvs.message import (
    DEL_DEST,
    DEL_SERVICE,
    GET_SERVICE,
    NEW_DEST,
    NEW_SERVICE,
    SET_DEST,
    SET_SERVICE,
    Destination,
    Held,
    decode_backend,
    decode_service,
    encode_backend,
    encode_family_question,
    encode_service,
    encode_vip,
    service_of,
)
from phalanx.lb.service import Backend, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.rtnl.attribute import decode_attributes

WEB = Vip(IPv4Address("11.0.0.1"), 80)
WEB6 = Vip(IPv6Address("fd01:c::1"), 443, Protocol.UDP)
FIRST, SECOND = (Backend(IPv4Address(f"9.0.1.{number}"), 8080) for number in (1, 2))

ADDRESSES = st.ip_addresses()
PORTS = st.integers(1, 65535)
VIPS = st.builds(Vip, ADDRESSES, PORTS, st.sampled_from(Protocol))
BACKENDS = st.builds(Backend, ADDRESSES, PORTS, st.integers(0, 1 << 31 - 1))
SERVICES = st.builds(
    Service, scheduler=st.sampled_from(Scheduler), affinity_seconds=st.integers(0, 1 << 31 - 1)
)


def test_ipv4_service_is_spelled_as_the_kernel_reads_it() -> None:
    service = Service(scheduler=Scheduler.WLC)

    assert encode_service(NEW_SERVICE, WEB, service).hex(" ", 4) == (
        "01010000 54000180"  # command and version; the service, nested
        " 06000100 02000000"  # AF_INET
        " 06000200 06000000"  # TCP
        " 14000300 0b000001 00000000 00000000 00000000"
        " 06000400 00500000"  # port, in network order
        " 08000600 776c6300"  # "wlc"
        " 0c000700 00000000 3d000000"  # no flag, of those that we decide on
        " 08000800 00000000 08000900 ffffffff"  # no affinity, of a whole address
    )


def test_ipv6_service_has_a_prefix_length_for_a_netmask() -> None:
    held = decode_service(encode_service(NEW_SERVICE, WEB6, Service()))

    assert held == Held(WEB6, "wlc", flags=0, timeout_seconds=0, netmask=128)


def test_question_for_the_family_names_it() -> None:
    assert encode_family_question().hex(" ", 4) == (
        "03010000 09000200 49505653 00000000"  # "IPVS"
    )


@given(VIPS, SERVICES)
def test_service_reads_back_as_it_was_written(vip: Vip, service: Service) -> None:
    held = decode_service(encode_service(NEW_SERVICE, vip, service))

    assert held is not None
    assert held.vip == vip
    assert service_of(held, ()) == service


@given(VIPS, BACKENDS)
def test_backend_reads_back_as_it_was_written(vip: Vip, backend: Backend) -> None:
    assert decode_backend(encode_backend(NEW_DEST, encode_vip(vip), backend), 0) == Destination(
        backend, is_plain=True
    )


Words = dict[int, bytes]


def named(vip: Vip) -> Words:
    """Return the attributes that name a service, by their numbers in ip_vs.h."""
    return {
        1: FAMILIES[vip.address.version],
        2: {Protocol.TCP: 6, Protocol.UDP: 17}[vip.protocol].to_bytes(2, sys.byteorder),
        3: vip.address.packed.ljust(16, b"\0"),
        4: vip.port.to_bytes(2, "big"),
    }


def placed(backend: Backend) -> Words:
    """Return the attributes that say where a backend is."""
    return {
        1: backend.address.packed.ljust(16, b"\0"),
        2: backend.port.to_bytes(2, "big"),
        11: FAMILIES[backend.address.version],
    }


def loaded(backend: Backend) -> Words:
    """Return the attributes that say what a backend gets."""
    return dict.fromkeys((3, 5, 6), bytes(4)) | {4: number(backend.weight)}


def number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


FAMILIES = {4: (2).to_bytes(2, sys.byteorder), 6: (10).to_bytes(2, sys.byteorder)}


def read(message: bytes) -> tuple[bytes, dict[int, Words]]:
    """Return the command and, by the nested attribute that they are in, all attributes."""
    assert len(message) % 4 == 0
    return message[:4], {
        kind: dict(decode_attributes(words)) for kind, words in decode_attributes(message[4:])
    }


@given(VIPS, SERVICES, st.sampled_from([NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE]))
def test_each_attribute_of_a_service_is_where_the_kernel_looks(
    vip: Vip, service: Service, command: int
) -> None:
    is_said = command in (NEW_SERVICE, SET_SERVICE)
    flags = 0x1 if service.affinity_seconds else 0
    flags |= 0x8 if service.scheduler in ("sh", "mh") else 0
    form = {
        6: service.scheduler.encode() + b"\0",
        7: number(flags) + number(0x3D),
        8: number(service.affinity_seconds),
        9: number(128 if vip.address.version == 6 else 0xFFFFFFFF),
    }

    message = encode_service(command, vip, service if is_said else None)

    assert read(message) == (bytes((command, 1, 0, 0)), {1: named(vip) | (form if is_said else {})})


@given(VIPS, BACKENDS, st.sampled_from([NEW_DEST, SET_DEST, DEL_DEST]))
def test_each_attribute_of_a_backend_is_where_the_kernel_looks(
    vip: Vip, backend: Backend, command: int
) -> None:
    load = {} if command == DEL_DEST else loaded(backend)

    message = encode_backend(command, encode_vip(vip), backend)

    assert read(message) == (
        bytes((command, 1, 0, 0)), {1: named(vip), 2: placed(backend) | load}
    )  # fmt: skip


PLAIN = Held(WEB, "wlc", flags=0, timeout_seconds=0, netmask=0xFFFFFFFF)


@pytest.mark.parametrize(
    ("held", "destination"),
    [
        pytest.param({"scheduler": "lblc"}, {}, id="scheduler-we-never-use"),
        pytest.param({"flags": 0x4}, {}, id="one-packet"),
        pytest.param({"scheduler": "mh"}, {}, id="hash-without-fallback"),
        pytest.param({"netmask": 0xFFFFFF00}, {}, id="affinity-of-a-whole-net"),
        pytest.param({}, {"is_plain": False}, id="tunnelled-or-limited-backend"),
    ],
)
def test_form_that_we_never_write_is_not_whole(
    held: dict[str, object], destination: dict[str, object]
) -> None:
    service = service_of(
        msgspec.structs.replace(PLAIN, **held),
        [msgspec.structs.replace(Destination(FIRST, is_plain=True), **destination)],
    )

    assert service.backends == (FIRST,)
    assert not service.is_whole


def test_service_by_firewall_mark_is_no_vip() -> None:
    answer = bytes.fromhex("04010000 14000180 06000100 02000000 08000500 01000000")

    assert decode_service(answer) is None


HEAVY = msgspec.structs.replace(FIRST, weight=3)
NAMES = {
    NEW_SERVICE: "add",
    SET_SERVICE: "set",
    DEL_SERVICE: "remove",
    NEW_DEST: "add backend",
    SET_DEST: "set backend",
    DEL_DEST: "remove backend",
}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param(None, None, [], id="nothing"),
        pytest.param(None, Service(), ["add"], id="empty"),
        pytest.param(None, Service((FIRST,)), ["add", "add backend"], id="new"),
        pytest.param(Service((FIRST,)), None, ["remove"], id="gone"),
        pytest.param(Service((FIRST,)), Service((FIRST,)), [], id="same"),
        pytest.param(Service((FIRST,)), Service((HEAVY,)), ["set backend"], id="weight"),
        pytest.param(
            Service((FIRST,)), Service((SECOND,)), ["add backend", "remove backend"], id="replaced"
        ),
        pytest.param(
            Service((FIRST,)), Service((FIRST,), scheduler=Scheduler.RR), ["set"], id="scheduler"
        ),
        pytest.param(Service(), Service(affinity_seconds=9), ["set"], id="affinity"),
        pytest.param(
            Service((FIRST, SECOND), is_whole=False),
            Service((FIRST,)),
            ["set", "set backend", "remove backend"],
            id="damaged",
        ),
    ],
)
def test_change_says_what_differs(
    before: Service | None, after: Service | None, said: list[str]
) -> None:
    assert [NAMES[message[0]] for message in commands(WEB, before, after)] == said


def test_address_family_of_a_backend_may_differ_from_its_vips() -> None:
    backend = Backend(ip_address("fd00::1"), 80)

    found = decode_backend(encode_backend(NEW_DEST, encode_vip(WEB), backend), 2)

    assert found is not None
    assert found.backend == backend
