"""While policies change, what is allowed all along never stops and what is denied never passes."""

import random
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest
from tests.netns.isolation.test_isolation_matrix import CLUSTER, FAMILIES, WHERE

from phalanx.core.reconcile.delta import delta
from phalanx.net.isolation.desired import Isolation, desired_isolation
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import Action, Direction, Policy, Tier, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable

Socket = Callable[..., socket.socket]
Reconcile = Callable[[View], Awaitable[None]]

OPEN, SHUT = 5000, 5001
ALLOWED = [
    Policy("stream", "role=web", "role=db", Traffic.UDP, ports=((OPEN, OPEN),)),
    Policy("answers", "role=web", "role=db", Traffic.TCP, ports=((OPEN, OPEN),)),
]
# Each moves the class of the client, its pair with the server, or the decisions of both.
PASSING = [
    Policy("all", "any", "192.0.2.0/24", Traffic.TCP),
    Policy("app", "/prod/web", "192.0.2.0/24", Traffic.ANY),
    Policy("node4", "9.0.1.0/24", "10.20.0.0/16", Traffic.UDP, ports=((7, 4000),)),
    Policy("node6", "fd01:b:0:0:1::/80", "fd02:b::/64", Traffic.UDP, ports=((7, 4000),)),
    Policy("near", "role=web", "/prod/db", Traffic.ICMP),
    Policy("wide", "dcos", "blue", Traffic.SCTP),
    Policy("way", "role=web", "role=db", Traffic.UDP, direction=Direction.EGRESS),
    Policy("law", "any", "role=db", Traffic.UDP, tier=Tier.CLUSTER, action=Action.DENY,
           ports=((SHUT, 6000),)),
]  # fmt: skip
CHANGES = 60


def states(rng: random.Random) -> Iterator[list[Policy]]:
    """Yield policies among which come and go all but those that allow the stream."""
    held: set[int] = set()
    for _ in range(CHANGES):
        held ^= set(rng.sample(range(len(PASSING)), rng.randint(1, 3)))
        yield [*ALLOWED, *(PASSING[number] for number in sorted(held))]


class Traffics:
    """Packets of one client to one server: an allowed stream, a refused one, a connection."""

    def __init__(self, socket_in: Socket, version: int, client: str, server: str) -> None:
        family = FAMILIES[version]
        address = WHERE[server][2][version]
        self.received: dict[int, socket.socket] = {}
        for port in (OPEN, SHUT):
            self.received[port] = socket_in(server, socket.SOCK_DGRAM, family=family)
            self.received[port].bind((address, port))
        self.received[SHUT].setblocking(False)
        self._stream = socket_in(client, socket.SOCK_DGRAM, family=family)
        self._stream.connect((address, OPEN))
        self._refused = socket_in(client, socket.SOCK_DGRAM, family=family)
        self._at = (address, SHUT)
        listener = socket_in(server, family=family)
        listener.bind((address, OPEN))
        listener.listen()
        self._caller = socket_in(client, family=family)
        self._caller.connect((address, OPEN))
        self._called, _ = listener.accept()
        self._called.settimeout(30)
        self._is_over = Event()

    def run(self) -> int:
        """Send until told to end; return how many went; each must arrive and come back."""
        count = 0
        while not self._is_over.is_set():
            text = str(count).encode()
            self._stream.send(text)
            data, asker = self.received[OPEN].recvfrom(64)
            assert data == text
            self.received[OPEN].sendto(data, asker)
            assert self._stream.recv(64) == text
            self._caller.sendall(text)
            assert self._called.recv(64) == text
            with suppress(OSError):  # the refusals of those before
                self._refused.sendto(text, self._at)
            count += 1
        return count

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send all the time; in the end say how it went."""
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(self.run)
            try:
                yield
            finally:
                self._is_over.set()
            assert sending.result() > CHANGES
        self._called.close()
        with pytest.raises(BlockingIOError):
            self.received[SHUT].recv(64)


class Walls:
    """The isolation tables of both nodes, changed by what follows from each View."""

    def __init__(self, handles: Sequence[Nft], view: View) -> None:
        self._tables = [KernelSetTable(handle, ISOLATION) for handle in handles]
        self._isolation, _ = Isolation().follow(view)

    async def start(self) -> None:
        """Make the tables as they shall be."""
        for table in self._tables:
            await table.apply(delta(self._isolation.elements, await table.read()))

    async def follow(self, view: View) -> None:
        """Change what *view* changes."""
        self._isolation, change = self._isolation.follow(view)
        for table in self._tables:
            await table.apply(change)

    async def listed(self) -> list[set[Element]]:
        """Return what each kernel holds."""
        return [set(await table.read()) for table in self._tables]


@pytest.fixture
def handles(cluster: Mapping[str, str]) -> Iterator[list[Nft]]:
    """Yield the nftables of both nodes."""
    made = [Nft(netns=Path("/run/netns", cluster[name])) for name in ("n1", "n2")]
    yield made
    for each in made:
        each.close()


@pytest.mark.parametrize(("version", "server"), [(4, "b1"), (6, "b2")])
async def test_a_change_neither_stops_a_stream_nor_opens_a_gap(
    socket_in: Socket, reconcile: Reconcile, handles: list[Nft], version: int, server: str
) -> None:
    seed = random.randrange(1 << 32)
    await reconcile(CLUSTER.changed(ALLOWED))
    walls = Walls(handles, CLUSTER.changed(ALLOWED))
    await walls.start()
    traffics = Traffics(socket_in, version, "d1", server)
    with traffics.flowing():
        for policies in states(random.Random(seed)):
            view = CLUSTER.changed(policies)
            await walls.follow(view)

    assert await walls.listed() == [desired_isolation(view).keys()] * 2, seed


async def test_any_order_of_the_same_changes_ends_in_the_same_table(
    reconcile: Reconcile, handles: list[Nft]
) -> None:
    rng = random.Random(random.randrange(1 << 32))
    await reconcile(CLUSTER)
    walls = Walls(handles, CLUSTER)
    await walls.start()
    for _ in range(5):
        view = CLUSTER
        for policy in rng.sample(PASSING, len(PASSING)):
            view = view.changed([policy])
            await walls.follow(view)
        assert await walls.listed() == [desired_isolation(view).keys()] * 2
        for policy in rng.sample(PASSING, len(PASSING)):
            view = view.changed((), [(policy.kind, policy.key)])
            await walls.follow(view)
        assert await walls.listed() == [desired_isolation(CLUSTER).keys()] * 2
