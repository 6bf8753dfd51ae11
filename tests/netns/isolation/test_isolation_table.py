"""The Dataplane of a table's elements: one contract on both backends, and the kernel's own part."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.isolation import layout
from phalanx.net.isolation.layout import ISOLATION, PASS, REFUSE
from phalanx.net.nft.element import RULES, Element
from phalanx.net.nft.layout import Layout
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable, MemorySetTable

Table = KernelSetTable | MemorySetTable

NETWORKS, SAME, ALLOWED = f"{layout.NETWORKS}4", f"{layout.SAME}4", layout.RANGES
PAIR, OTHER = "1:2", "abcd:fffe"
ELEMENTS = dict.fromkeys(
    [
        RULES,
        Element(NETWORKS, ("9.0.0.0/8",)),
        Element(NETWORKS, ("10.20.0.0/16",)),  # beside the next one
        Element(NETWORKS, ("10.21.0.0/16",)),
        Element(NETWORKS, ("192.0.2.1",)),
        Element(SAME, ("9.0.0.0/8", "9.0.0.0/8")),
        Element(SAME, ("10.20.0.0-10.22.255.255", "0.0.0.0/0")),
        Element(f"{layout.NETWORKS}6", ("fd01:20::/64",)),
        Element(f"{layout.FINE}4", ("9.0.0.1",), PAIR),
        Element(f"{layout.FINE}6", ("::ffff:102:304",), PAIR),
        Element(f"{layout.WIDE}6", ("::-::ffff:101:ffff",), OTHER),
        Element(f"{layout.NEAR}4", (PAIR, "10.20.0.5"), OTHER),
        Element(f"{layout.FAR}4", (PAIR, "10.20.0.0-10.22.255.255"), OTHER),
        Element(f"{layout.FAR}6", (PAIR, "fd01:20::/64"), OTHER),
        Element(layout.PORTS, (OTHER, "6", "443"), layout.LEAVES),
        Element(layout.PROTOCOLS, (OTHER, "1"), layout.ENTERS),
        Element(layout.OTHERS, (OTHER,), REFUSE),
        Element(ALLOWED, (PAIR, "6", "5432-5433"), PASS),
        Element(ALLOWED, (PAIR, "17", "8000-8010"), PASS),
        Element(ALLOWED, (PAIR, "6", "1024-2047"), PASS),
        Element(ALLOWED, (OTHER, "6", "0-65535"), PASS),
    ]
)
OPENING = Element(ALLOWED, (PAIR, "6", "5432-5433"), PASS)


def nft(ns: str, command: str, *options: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", ns, "nft", *options, command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_in(ns: str, *command: str) -> None:
    subprocess.run(["ip", "netns", "exec", ns, *command], check=True, capture_output=True)


@pytest.fixture
def handle(ns: str) -> Iterator[Nft]:
    library = Nft(netns=Path("/run/netns", ns))
    yield library
    library.close()


@pytest.fixture(params=["memory", "kernel"])
def table(request: pytest.FixtureRequest, handle: Nft) -> Table:
    if request.param == "kernel":
        return KernelSetTable(handle, ISOLATION)
    return MemorySetTable(ISOLATION)


@pytest.fixture
def kernel(handle: Nft) -> KernelSetTable:
    return KernelSetTable(handle, ISOLATION)


async def test_elements_read_back_as_they_were_written(table: Table) -> None:
    assert await table.read() == {}
    await table.apply(Delta(ELEMENTS, frozenset()))

    assert await table.read() == ELEMENTS


async def test_elements_come_and_go(table: Table) -> None:
    await table.apply(Delta(ELEMENTS, frozenset()))
    added = Element(NETWORKS, ("172.20.0.0/16",))
    await table.apply(Delta({added: None}, frozenset({OPENING})))

    assert await table.read() == {k: None for k in (*ELEMENTS, added) if k != OPENING}


async def test_narrower_element_takes_the_place_of_a_wider_one_in_one_change(
    table: Table,
) -> None:
    await table.apply(Delta(ELEMENTS, frozenset()))
    wide = {
        Element(NETWORKS, ("9.0.0.0/8",)),
        Element(ALLOWED, (OTHER, "6", "0-65535"), PASS),
    }
    narrow = [
        Element(NETWORKS, ("9.0.0.0/9",)),
        Element(ALLOWED, (OTHER, "6", "80-81"), PASS),
        Element(ALLOWED, (OTHER, "6", "443-500"), REFUSE),
    ]
    await table.apply(Delta(dict.fromkeys(narrow), frozenset(wide)))
    assert await table.read() == dict.fromkeys([*(ELEMENTS.keys() - wide), *narrow])

    await table.apply(Delta(dict.fromkeys(wide), frozenset(narrow)))
    assert await table.read() == ELEMENTS


async def test_what_an_element_of_a_map_leads_to_changes_in_one_go(table: Table) -> None:
    await table.apply(Delta(ELEMENTS, frozenset()))
    change = {Element(ALLOWED, (PAIR, "6", "5432-5433"), REFUSE): None}
    await table.apply(Delta(change, frozenset({OPENING})))

    assert await table.read() == {k: None for k in (*ELEMENTS, *change) if k != OPENING}


async def test_table_itself_can_go(table: Table) -> None:
    await table.apply(Delta(ELEMENTS, frozenset()))
    await table.apply(Delta({}, frozenset(ELEMENTS)))

    assert await table.read() == {}


async def test_elements_without_a_table_are_refused(table: Table) -> None:
    with pytest.raises(DataplaneError, match="phalanx_isolation"):
        await table.apply(Delta({OPENING: None}, frozenset()))

    assert await table.read() == {}


async def test_element_that_the_kernel_refuses_does_not_hold_up_the_others(
    kernel: KernelSetTable,
) -> None:
    await kernel.apply(Delta(ELEMENTS, frozenset()))
    bad, good = Element(NETWORKS, ("9.1.0.0/16",)), Element(NETWORKS, ("172.20.0.0/16",))
    with pytest.raises(DataplaneError, match=r"add networks4 \{ 9.1.0.0/16 \}"):
        await kernel.apply(Delta({bad: None, good: None}, frozenset({OPENING})))

    assert await kernel.read() == {k: None for k in (*ELEMENTS, good) if k != OPENING}


async def test_bad_element_does_not_keep_the_table_from_being_made(
    kernel: KernelSetTable,
) -> None:
    bad = Element(NETWORKS, ("9.1.0.0/16",))
    with pytest.raises(DataplaneError, match=r"add networks4 { 9\.1\.0\.0/16 }: .*conflicting"):
        await kernel.apply(Delta({**ELEMENTS, bad: None}, frozenset()))

    assert await kernel.read() == ELEMENTS


@pytest.mark.parametrize(
    "damage",
    [
        "delete table inet phalanx_isolation",
        "flush table inet phalanx_isolation",
        "flush chain inet phalanx_isolation walls",
        "add rule inet phalanx_isolation walls accept",
        "add chain inet phalanx_isolation more",
        "add chain inet phalanx_isolation forward { policy drop; }",
        "add set inet phalanx_isolation more { type ipv4_addr; }",
    ],
)
async def test_table_that_was_altered_reads_as_empty_and_is_made_anew(
    kernel: KernelSetTable, ns: str, damage: str
) -> None:
    await kernel.apply(Delta(ELEMENTS, frozenset()))
    whole = nft(ns, "list table inet phalanx_isolation")
    nft(ns, damage)

    assert await kernel.read() == {}
    await kernel.apply(delta(ELEMENTS, await kernel.read()))

    assert await kernel.read() == ELEMENTS
    assert nft(ns, "list table inet phalanx_isolation") == whole


async def test_sets_of_another_kind_make_way_for_ours(kernel: KernelSetTable, ns: str) -> None:
    nft(ns, "add table inet phalanx_isolation")
    nft(ns, "add set inet phalanx_isolation networks4 { type inet_service; }")
    nft(ns, "add element inet phalanx_isolation networks4 { 80 }")

    await kernel.apply(delta(ELEMENTS, await kernel.read()))

    assert await kernel.read() == ELEMENTS


async def test_a_rule_that_knows_other_values_is_another_rule(
    kernel: KernelSetTable, ns: str
) -> None:
    await kernel.apply(Delta(ELEMENTS, frozenset()))
    chain = nft(ns, "list chain inet phalanx_isolation node", "--handle")
    (handle,) = re.findall(r"icmp type \{ .* # handle (\d+)", chain)

    nft(
        ns,
        f"replace rule inet phalanx_isolation node handle {handle}"
        " icmp type { echo-request, redirect, time-exceeded, parameter-problem } accept",
    )

    assert await kernel.read() == {}


async def test_counting_alters_no_rule(handle: Nft, ns: str) -> None:
    body = "chain output { type filter hook output priority filter; counter; }\n"
    table = KernelSetTable(handle, Layout("counts", body))
    await table.apply(Delta({RULES: None}, frozenset()))
    run_in(ns, "ip", "link", "set", "lo", "up")
    run_in(ns, "ping", "-c1", "127.0.0.1")
    assert "packets 0" not in nft(ns, "list table inet counts")

    assert await table.read() == {RULES: None}


async def test_elements_altered_by_hand_are_put_right_one_by_one(
    kernel: KernelSetTable, ns: str
) -> None:
    await kernel.apply(Delta(ELEMENTS, frozenset()))
    nft(ns, "add element inet phalanx_isolation networks4 { 172.16.0.0/12 }")
    nft(ns, "delete element inet phalanx_isolation networks4 { 9.0.0.0/8 }")
    change = delta(ELEMENTS, await kernel.read())
    assert change == Delta(
        {Element(NETWORKS, ("9.0.0.0/8",)): None},
        frozenset({Element(NETWORKS, ("172.16.0.0/12",))}),
    )

    await kernel.apply(change)

    assert await kernel.read() == ELEMENTS


async def test_another_process_makes_the_table_anew_and_agrees(
    kernel: KernelSetTable, handle: Nft
) -> None:
    await kernel.apply(Delta(ELEMENTS, frozenset()))
    restarted = KernelSetTable(handle, ISOLATION)
    await restarted.apply(delta(ELEMENTS, await restarted.read()))

    assert await restarted.read() == await kernel.read() == ELEMENTS


async def test_other_tables_are_never_touched(kernel: KernelSetTable, ns: str) -> None:
    nft(ns, "add table inet theirs; add set inet theirs networks { type ipv4_addr; }")
    nft(ns, "add element inet theirs networks { 1.2.3.4 }")
    before = nft(ns, "list table inet theirs")
    await kernel.apply(Delta(ELEMENTS, frozenset()))
    assert await kernel.read() == ELEMENTS
    await kernel.apply(Delta({}, frozenset(ELEMENTS)))

    assert nft(ns, "list table inet theirs") == before
