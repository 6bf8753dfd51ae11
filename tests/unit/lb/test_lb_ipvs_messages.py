"""What goes to the kernel's IPVS and what comes back, as bytes, and the order of a change."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.lb.ipvs.commands import commands
from phalanx.lb.ipvs.message import (
    DEL_DEST,
    DEL_SERVICE,
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
    service_of,
)
from phalanx.lb.service import Backend, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol

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
    assert decode_backend(encode_backend(NEW_DEST, vip, backend), 0) == Destination(
        backend, is_plain=True
    )


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

    found = decode_backend(encode_backend(NEW_DEST, WEB, backend), 2)

    assert found is not None
    assert found.backend == backend
