"""What is written to nftables and how its listing is read: pure, so no kernel here."""

import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec
import pytest

from phalanx.lb.nftables.entry import EMPTY, Entry, compile_entry, service_of
from phalanx.lb.nftables.listing import parse_elements
from phalanx.lb.nftables.ruleset import render_ruleset
from phalanx.lb.nftables.script import Change, render_batches
from phalanx.lb.service import Backend, Endpoint, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.dump import decode_elements
from phalanx.net.nft.structure import GETRULE, parts_of
from phalanx.net.rtnl.attribute import encode_attribute

POOL = IPv4Network("11.0.0.0/8")
WEB = Vip(IPv4Address("11.0.0.1"), 80)
ONE = Backend(IPv4Address("9.0.1.1"), 8080)
TWO = Backend(IPv4Address("9.0.1.2"), 8080)


def scripts(*changes: Change, batch: int = 1000) -> list[str]:
    return list(render_batches(changes, batch=batch))


def test_new_service_adds_slots_and_membership() -> None:
    after = compile_entry(Service((Backend(ONE.address, 8080, 0), TWO)))

    (script,) = scripts(Change(WEB, EMPTY, after))

    lines = script.splitlines()
    assert [line.split(" {")[0] for line in lines] == [
        "add element inet phalanx_lb slots",
        "add element inet phalanx_lb weights",
        "add element inet phalanx_lb services_8",
    ]
    assert "11.0.0.1 . tcp . 80 . 7 : 9.0.1.2 . 8080" in lines[0]
    assert "{ 11.0.0.1 . tcp . 80 . 9.0.1.1 . 8080 : 0 }" in lines[1]
    assert "{ 11.0.0.1 . tcp . 80 }" in lines[2]


def test_backend_that_leaves_touches_its_own_slots_only() -> None:
    before = compile_entry(Service((ONE, TWO)))
    after = compile_entry(Service((ONE,)), before)

    (script,) = scripts(Change(WEB, before, after))

    deleted, added = script.splitlines()
    assert deleted.startswith("delete element inet phalanx_lb slots {")
    assert deleted.count("11.0.0.1 . tcp") == 4
    assert added.startswith("add element inet phalanx_lb slots {")
    assert added.count(" : 9.0.1.1 . 8080") == 4


def test_last_backend_that_drains_makes_the_service_refuse() -> None:
    before = compile_entry(Service((ONE,)))
    after = compile_entry(Service((Backend(ONE.address, 8080, 0),)), before)

    (script,) = scripts(Change(WEB, before, after))

    assert "add element inet phalanx_lb refused { 11.0.0.1 . tcp . 80 }" in script
    assert "delete element inet phalanx_lb services_8 { 11.0.0.1 . tcp . 80 }" in script


def test_no_difference_is_no_script() -> None:
    same = compile_entry(Service((ONE,)))

    assert scripts(Change(WEB, same, same)) == []


def test_big_change_is_split_between_services() -> None:
    entry = compile_entry(Service((ONE,)))
    changes = [Change(Vip(WEB.address + number, 80), EMPTY, entry) for number in range(5)]

    made = scripts(*changes, batch=2 * 9)

    assert [script.count("services_8 {") for script in made] == [1, 1, 1]
    assert "".join(made).count(" . 7 : 9.0.1.1 . 8080") == 5


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(Entry(), id="nothing"),
        pytest.param(Entry(lengths=frozenset({8})), id="no-slots"),
        pytest.param(Entry(slots={0: ONE.endpoint}), id="no-length"),
        pytest.param(Entry(lengths=frozenset({8}), slots={0: ONE.endpoint}), id="few-slots"),
        pytest.param(
            Entry(lengths=frozenset({8}), slots=dict.fromkeys(range(9), ONE.endpoint)),
            id="slots-beyond-the-end",
        ),
        pytest.param(
            Entry(lengths=frozenset({8, 32}), slots=dict.fromkeys(range(8), ONE.endpoint)),
            id="two-lengths",
        ),
        pytest.param(
            Entry(
                lengths=frozenset({8}),
                slots=dict.fromkeys(range(8), ONE.endpoint),
                is_refused=True,
            ),
            id="served-and-refused",
        ),
        pytest.param(
            msgspec.structs.replace(compile_entry(Service((ONE,))), is_hashed=True),
            id="hashed-without-saying",
        ),
        pytest.param(
            msgspec.structs.replace(
                compile_entry(Service((ONE,), scheduler=Scheduler.SH)), is_hashed=False
            ),
            id="drawn-without-saying",
        ),
        pytest.param(
            msgspec.structs.replace(compile_entry(Service((ONE,))), options=7),
            id="scheduler-not-known",
        ),
        pytest.param(
            Entry(
                lengths=frozenset({8}),
                slots=dict.fromkeys(range(7), ONE.endpoint) | {7: TWO.endpoint},
            ),
            id="unfair",
        ),
    ],
)
def test_elements_that_contradict_one_another_are_no_whole_service(damaged: Entry) -> None:
    assert not service_of(damaged).is_whole


@pytest.mark.parametrize("scheduler", list(Scheduler))
@pytest.mark.parametrize("affinity", [0, 1, 604800])
def test_entry_is_read_back_as_its_service(scheduler: Scheduler, affinity: int) -> None:
    service = Service(
        (Backend(ONE.address, 8080, 0), TWO), scheduler=scheduler, affinity_seconds=affinity
    )

    assert service_of(compile_entry(service)) == service


def test_service_of_ipv6_is_written_to_its_own_sets() -> None:
    vip = Vip(IPv6Address("fd01:c::1"), 80)
    after = compile_entry(Service((Backend(IPv6Address("fd01:b::2"), 8080),)))

    (script,) = scripts(Change(vip, EMPTY, after))

    assert [line.split(" {")[0] for line in script.splitlines()] == [
        "add element inet phalanx_lb slots6",
        "add element inet phalanx_lb services6_8",
    ]
    assert "fd01:c::1 . tcp . 80 . 7 : fd01:b::2 . 8080" in script


def test_change_of_the_scheduler_only_touches_what_says_so() -> None:
    before = compile_entry(Service((ONE,), scheduler=Scheduler.MH))
    after = compile_entry(Service((ONE,), scheduler=Scheduler.SH), before)

    (script,) = scripts(Change(WEB, before, after))

    assert script == (
        "delete element inet phalanx_lb options { 11.0.0.1 . tcp . 80 }\n"
        "add element inet phalanx_lb options { 11.0.0.1 . tcp . 80 : 2 }\n"
    )


def test_elements_are_read_by_vip() -> None:
    dns = bytes.fromhex("0b000001 11000000 00350000")
    web6 = bytes.fromhex("fd01000c000000000000000000000001 06000000 01bb0000")
    held = parse_elements(
        {
            "fingerprint": [(number(1), number(17)), (number(2), number(18))],
            "slots": [(dns + number(0), bytes.fromhex("09000101 1f900000"))],
            "weights": [(dns + bytes.fromhex("09000102 00080000"), number(0))],
            "refused": [(bytes.fromhex("0b000002 06000000 00500000"), b"")],
            "services_8": [(dns, b"")],
            "services_32": [],
            "slots6": [(web6 + number(3), bytes.fromhex("fd00" + "00" * 13 + "11 1f900000"))],
            "options6": [(web6, number(9))],
            "hashed6": [(web6, b"")],
            "services6_128": [(web6, b"")],
        }
    )

    assert held.fingerprint == {1: 17, 2: 18}
    assert held.entries == {
        Vip(IPv4Address("11.0.0.1"), 53, Protocol.UDP): Entry(
            lengths=frozenset({8}),
            slots={0: ONE.endpoint},
            weights={Endpoint(TWO.address, 8): 0},
        ),
        Vip(IPv4Address("11.0.0.2"), 80): Entry(is_refused=True),
        Vip(IPv6Address("fd01:c::1"), 443): Entry(
            lengths=frozenset({128}),
            slots={3: Endpoint(IPv6Address("fd00::11"), 8080)},
            options=9,
            is_hashed=True,
        ),
    }


def number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def test_elements_are_cut_out_of_a_message_whatever_else_they_carry() -> None:
    flags = encode_attribute(3, b"\0\0\0\1")
    elements = [
        encode_attribute(1, encode_attribute(1, b"key-one-")) + flags,
        flags
        + encode_attribute(1, encode_attribute(1, b"key2"))
        + encode_attribute(2, encode_attribute(1, b"datum-78")),
    ]
    listed = b"".join(encode_attribute(1, each) for each in elements)
    names = encode_attribute(1, b"table\0") + encode_attribute(2, b"set\0")
    message = b"\1\0\0\0" + names + encode_attribute(3, listed)

    assert list(decode_elements(message)) == [(b"key-one-", b""), (b"key2", b"datum-78")]


def test_structure_is_of_one_table_and_has_no_numbers_of_the_kernel() -> None:
    def rule(table: bytes, handle: int) -> bytes:
        words = ((1, table + b"\0"), (2, b"chain\0"), (3, bytes([handle])), (4, b"drop"))
        return b"\1\0\0\0" + b"".join(encode_attribute(kind, value) for kind, value in words)

    found = list(parts_of("ours", GETRULE, [rule(b"ours", 7), rule(b"other", 8), rule(b"ours", 9)]))

    assert [[kind for kind, _ in each] for each in found] == [[1, 2, 4], [1, 2, 4]]
    assert found[0] == found[1]


def test_ruleset_refuses_the_pool_it_was_given() -> None:
    ruleset = render_ruleset(IPv4Network("10.64.0.0/10"), IPv6Network("fd02::/64"))

    assert "ip daddr 10.64.0.0/10 goto refuse" in ruleset
    assert "ip6 daddr fd02::/64 goto refuse" in ruleset
    assert str(POOL) not in ruleset
