"""A plane's balancer that dies after a step, for as often as it is asked to: ``dying.py NETNS``.

Of each line of its input, a number of steps, it makes a process that brings the services to
AFTER and is killed once it has taken those; says whether it had come to its end before.
A step is a batch of requests to IPVS or a transaction of the table.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from tests.guest.lb.ipvs_lab import DNS, NODE, OWN, WEB, WEB6, service

from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.nft.library import Nft
from phalanx.net.rtnl.conversation import Conversation

Table = dict[Vip, Service]

MANY: Table = {
    Vip(ip_address("11.1.0.0") + number, 80): Service.of(
        Backend(ip_address("9.0.7.1") + each, 8080) for each in range(5)
    )
    for number in range(30)
}
GONE: Table = {
    Vip(ip_address("11.2.0.0") + number, 80): service(b1=1, b2=1) for number in range(30)
}
BEFORE: Table = GONE | {WEB: service(b1=1, b2=1), DNS: service(b1=1)}
AFTER: Table = MANY | {
    WEB: service(b1=1, b2=0, b3=1),
    DNS: service(b1=0),
    OWN: service(b2=1),
    WEB6: service(version=6, b1=1),
}


class Steps:
    """Steps that are left."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self) -> None:
        """Take one; die with the last."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingNft(Nft):
    """The real library, whose transactions are steps."""

    def __init__(self, steps: Steps, *, netns: Path) -> None:
        super().__init__(netns=netns)
        self._steps = steps

    async def run(self, script: str, *, table: str) -> None:
        await super().run(script, table=table)
        self._steps.take()


def write(netns: Path, left: int) -> None:
    """Bring the services to AFTER, but die after so many steps."""
    steps, refusals = Steps(left), Conversation._refusals

    def step(self: Conversation, batch: Sequence[tuple[int, int, bytes]]) -> dict[int, int]:
        answer = refusals(self, batch)
        steps.take()
        return answer

    Conversation._refusals = step  # type: ignore[method-assign]  # where a batch ends
    nft, flows = DyingNft(steps, netns=netns), Flows(netns=netns)
    services = IpvsServices(nft, node=IPv4Address(NODE), flows=flows)
    asyncio.run(Reconciler(services, lambda: AFTER).reconcile_once())


def forked(work: Callable[[], None]) -> str:
    """Return how *work* ended in a process of its own."""
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # what it logs is no answer
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else "done" if status == 0 else "failed"


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(forked(partial(write, Path(sys.argv[1]), int(line))) + "\n")
        sys.stdout.flush()
