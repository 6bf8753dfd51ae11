"""Whoever meddles, whenever this process dies: the table comes to what it should be."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest

from phalanx.core.reconcile.delta import Delta, delta
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.library import Nft

Table = dict[Vip, Service]

# What a child process does: write one table after another until it is killed.
WRITER = """
import asyncio, sys
from pathlib import Path
from random import Random
from tests.netns.lb.test_lb_fault import table
from phalanx.core.reconcile.delta import delta
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.nft.library import Nft

async def write():
    netns = Path(sys.argv[1])
    rng, flows = Random(int(sys.argv[2])), Flows(netns=netns)
    services = NftablesServices(Nft(netns=netns), flows=flows)
    while True:
        wanted = table(600, rng)
        await services.apply(delta(wanted, await services.read()))
        print("written", flush=True)

asyncio.run(write())
"""


def table(size: int, rng: Random) -> Table:
    """Return about *size* services, refused ones and datagrams among them."""
    first, inside = IPv4Address("11.1.0.0"), IPv4Address("9.0.0.0")
    return {
        Vip(first + number, 80, rng.choice(list(Protocol))): Service.of(
            Backend(inside + number * 5 + each, 8080, rng.choice((0, 1, 1, 3)))
            for each in range(rng.randrange(5))
        )
        for number in range(size)
        if rng.random() < 0.9
    }


@pytest.fixture
def services(ns: str) -> Iterator[NftablesServices]:
    netns = Path("/run/netns") / ns
    nft = Nft(netns=netns)
    services = NftablesServices(nft, flows=Flows(netns=netns))
    yield services
    services.close()
    nft.close()


def nft(namespace: str, command: str) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, "nft", command], check=True)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("delete table inet phalanx_lb", id="deleted"),
        pytest.param("flush set inet phalanx_lb services_8", id="set-flushed"),
        pytest.param("flush ruleset", id="all-flushed"),
    ],
)
async def test_change_of_one_service_after_harm_brings_all_of_them_back(
    ns: str, services: NftablesServices, harm: str
) -> None:
    rng = Random(1)
    states = [table(50, rng)]
    loop: IncrementalReconciler[Table, Vip, Service] = IncrementalReconciler(
        services, lambda: states[-1], dict, changes, is_known=services.is_known
    )
    assert await loop.reconcile_once(resync=False)
    states.append({**states[0], Vip(IPv4Address("11.9.0.1"), 80): Service()})
    assert await loop.reconcile_once(resync=False)

    nft(ns, harm)
    states.append({**states[0], Vip(IPv4Address("11.9.0.2"), 80): Service()})

    assert await loop.reconcile_once(resync=False)
    assert await services.read() == states[-1]


async def test_thousands_come_and_go_while_somebody_deletes_the_table(
    ns: str, services: NftablesServices
) -> None:
    rng = Random(2)
    wanted: Table = {}
    loop: IncrementalReconciler[Table, Vip, Service] = IncrementalReconciler(
        services, lambda: wanted, dict, changes, is_known=services.is_known
    )

    async def meddle() -> None:
        for _ in range(3):
            await asyncio.sleep(rng.random() / 5)  # at any moment of a pass
            await asyncio.to_thread(
                nft, ns, "add table inet phalanx_lb; delete table inet phalanx_lb"
            )

    meddler = asyncio.create_task(meddle())
    sizes = [1500, 0, 1500, 20, 1500]
    while sizes or not meddler.done():
        wanted = table(sizes.pop() if sizes else 20, rng)
        await loop.reconcile_once(resync=False)
    await meddler
    while not await loop.reconcile_once(resync=False):
        pass

    assert await services.read() == wanted


def changes(before: Table, after: Table) -> Delta[Vip, Service]:
    return delta(after, before)


def test_process_killed_amid_a_change_leaves_what_the_next_one_makes_right(ns: str) -> None:
    rng = Random(3)
    for seed in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, f"/run/netns/{ns}", str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[3],
        )
        assert writer.stdout is not None
        for _ in range(rng.randrange(3)):
            while writer.stdout.readline() != b"written\n":
                assert writer.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=rng.random() / 5)  # dies at any moment of a pass
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()

        assert asyncio.run(made_right(ns, table(600, rng)))


async def made_right(ns: str, wanted: Table) -> bool:
    """Tell whether a new process, here this one, brings the table to *wanted*."""
    library = Nft(netns=Path("/run/netns") / ns)
    flows = Flows(netns=Path("/run/netns") / ns)
    services = NftablesServices(library, flows=flows)
    try:
        is_ok = await Reconciler(services, lambda: wanted).reconcile_once()
        fresh = NftablesServices(library)
        is_held = await fresh.read() == wanted
        fresh.close()
        return is_ok and is_held
    finally:
        services.close()
        library.close()
