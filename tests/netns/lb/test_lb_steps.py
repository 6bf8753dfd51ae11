"""Whichever step of a change fails, and whenever its process dies: no connection notices."""

import asyncio
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random

import pytest
from tests.netns.lb.failing import FailingNft
from tests.netns.lb.lab import (
    ALL,
    DNS,
    OWN,
    WEB,
    WEB6,
    Lab,
    ask_udp,
    exchange,
    open_socket,
    run,
    service,
    service6,
)

from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Endpoint, Service, Vip

Table = dict[Vip, Service]

BEFORE: Table = {WEB: ALL, DNS: service(b1=1), WEB6: service6(b1=1)}
AFTER: Table = {WEB: service(b1=1, b2=1), DNS: service(b2=1), OWN: service(b3=1)}

# What a child process does: write one table after another until it is killed.
WRITER = """
import asyncio, sys
from pathlib import Path
from random import Random
from tests.netns.lb.test_lb_steps import any_table
from phalanx.core.reconcile.delta import delta
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.nft.library import Nft

async def write():
    netns = Path(sys.argv[1])
    services = NftablesServices(Nft(netns=netns), flows=Flows(netns=netns))
    rng = Random(int(sys.argv[2]))
    while True:
        wanted = any_table(rng)
        await services.apply(delta(wanted, await services.read()))
        print("written", flush=True)

asyncio.run(write())
"""


def any_table(rng: Random) -> Table:
    """Return services of which the first always has backends, whichever they are."""
    few = {f"b{number}": rng.choice((0, 1, 3)) for number in rng.sample((1, 2), rng.randrange(3))}
    many = {Vip(OWN.address + number, 80): service(b1=1) for number in range(rng.randrange(200))}
    return {WEB: service(b3=1, **few), **many}


@pytest.fixture
def library(topology: Lab) -> Iterator[FailingNft]:
    library = FailingNft(netns=Path("/run/netns") / topology.node)
    yield library
    library.close()


@pytest.mark.parametrize("is_heard", [False, True], ids=["unheard", "answer-lost"])
@pytest.mark.parametrize(
    ("is_start", "harm", "steps"),
    [
        pytest.param(False, "", 1, id="change"),
        pytest.param(True, "", 4, id="start"),
        pytest.param(False, "flush chain inet phalanx_lb refuse", 5, id="table-made-anew"),
    ],
)
async def test_any_step_may_fail(
    lab: Lab, library: FailingNft, is_start: bool, harm: str, steps: int, is_heard: bool
) -> None:
    library.is_heard = is_heard
    flows = Flows(netns=Path("/run/netns") / lab.node)
    client = lab.namespace("client")
    for step in count():
        with ExitStack() as stack:
            services = NftablesServices(library, flows=flows)
            stack.callback(services.close)
            assert await Reconciler(services, lambda: BEFORE).reconcile_once()
            reader, writer = await lab.connect(client, WEB)
            stack.callback(writer.close)
            name, _ = await exchange(reader, writer)
            asking = stack.enter_context(open_socket(client, socket.SOCK_DGRAM))
            asking.connect((str(DNS.address), DNS.port))
            assert await ask_udp(asking) == "b1"
            if harm:
                run("ip", "netns", "exec", lab.node, "nft", harm)
            if is_start:
                services.close()
                services = NftablesServices(library, flows=flows)
                stack.callback(services.close)
            loop = Reconciler(services, lambda: AFTER)

            library.left = step
            is_done = await loop.reconcile_once()
            has_failed = library.left is None
            library.left = None

            assert is_done is not has_failed
            assert (await lab.ask(client, WEB))[0] in {"b1", "b2", "b3"}
            assert (await exchange(reader, writer))[0] == name
            assert await loop.reconcile_once()
            fresh = NftablesServices(library, flows=flows)
            stack.callback(fresh.close)
            assert await fresh.read() == AFTER
            assert (await exchange(reader, writer))[0] == name
            assert await ask_udp(asking) == "b2"
            if not has_failed:
                break
    assert step >= steps


class DeafFlows(Flows):
    """Flows that nobody is told to forget: who was to tell has died."""

    async def forget(self, vip: Vip, endpoint: Endpoint) -> None:
        pass


async def test_next_process_forgets_the_flows_that_one_died_before(
    lab: Lab, library: FailingNft
) -> None:
    netns = Path("/run/netns") / lab.node
    dying = NftablesServices(library, flows=DeafFlows(netns=netns))
    await dying.apply(Delta({DNS: service(b1=1)}, frozenset()))
    other = Vip(DNS.address + 1, 53, DNS.protocol)
    await dying.apply(Delta({other: service(b1=1)}, frozenset()))
    with ExitStack() as stack:
        asking = {}
        for vip in (DNS, other):
            asking[vip] = open_socket(lab.namespace("client"), socket.SOCK_DGRAM)
            stack.enter_context(asking[vip])
            asking[vip].connect((str(vip.address), vip.port))
            assert await ask_udp(asking[vip]) == "b1"
        after = {DNS: service(b2=1), other: service(b1=0, b2=1)}
        await dying.apply(Delta(after, frozenset()))
        dying.close()
        assert await ask_udp(asking[DNS]) == "b1"

        services = NftablesServices(library, flows=Flows(netns=netns))
        assert await Reconciler(services, lambda: after).reconcile_once()
        services.close()

        assert await ask_udp(asking[DNS]) == "b2"
        assert await ask_udp(asking[other]) == "b1"  # drained: it goes on


async def test_process_killed_amid_changes_interrupts_nobody(lab: Lab, library: FailingNft) -> None:
    rng, client = Random(5), lab.namespace("client")
    netns = Path("/run/netns") / lab.node
    first = NftablesServices(library, flows=Flows(netns=netns))
    assert await Reconciler(first, lambda: {WEB: ALL}).reconcile_once()
    first.close()
    kept = [await lab.connect(client, WEB) for _ in range(12)]
    names = [(await exchange(*each))[0] for each in kept]
    answers: Counter[str] = Counter()
    for seed in range(3):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, str(netns), str(seed)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=Path(__file__).parents[3],
        )
        assert child.stdout is not None
        while (line := await child.stdout.readline()) != b"written\n":
            assert line  # else it has died
        for _ in range(rng.randrange(5, 25)):  # any moment of a pass
            answers[(await lab.ask(client, WEB))[0]] += 1
        child.send_signal(signal.SIGKILL)
        await child.communicate()
        answers[(await lab.ask(client, WEB))[0]] += 1
        assert [(await exchange(*each))[0] for each in kept] == names

    for _, writer in kept:
        writer.close()
    assert answers.keys() <= {"b1", "b2", "b3"}
    assert answers.total() > 15
