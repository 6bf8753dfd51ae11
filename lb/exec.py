"""Count flows, and forget those of UDP: one would go on to a backend that has left.

A few of them are forgotten with conntrack(8), which looks through all flows in C for each;
many with one look of our own.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import structlog

from phalanx.core.netns import call_in
from phalanx.lb import conntrack
from phalanx.lb.service import Endpoint, Vip

log = structlog.get_logger()

PROGRAM = "conntrack"
FEW = 3  # pairs
NOTHING_DELETED = "0 flow entries have been deleted"


class Flows:
    """The tracked flows of one network namespace; the caller's own by default."""

    def __init__(self, *, netns: Path | None = None) -> None:
        self._netns = netns
        self._prefix = () if netns is None else ("nsenter", f"--net={netns}")

    async def count_open(self) -> Mapping[tuple[Vip, Endpoint], int] | None:
        """Return the open connections of each VIP and backend, None if the kernel does not tell."""
        try:
            if self._netns is None:
                return await asyncio.to_thread(conntrack.count_open)
            return await asyncio.to_thread(call_in, self._netns, conntrack.count_open)
        except OSError as error:
            log.warning("flows_not_counted", error=str(error))
            return None

    async def forget_all(self, pairs: Collection[tuple[Vip, Endpoint]]) -> None:
        """Delete the flows to each VIP that were sent to the endpoint beside it; as `forget`."""
        if len(pairs) <= FEW:
            for vip, endpoint in pairs:
                await self.forget(vip, endpoint)
            return
        await self._look(lambda: conntrack.forget(pairs))

    async def forget_strays(
        self, services: Mapping[Vip, Collection[Endpoint]], pools: conntrack.Pools
    ) -> None:
        """Delete UDP flows to VIPs that go to none of their backends; as `forget`."""
        await self._look(lambda: conntrack.forget_strays(services, pools))

    async def _look(self, forget: Callable[[], int]) -> None:
        try:
            if self._netns is None:
                await asyncio.to_thread(forget)
            else:
                await asyncio.to_thread(call_in, self._netns, forget)
        except OSError as error:
            log.warning("flows_not_forgotten", error=str(error))

    async def forget(self, vip: Vip, endpoint: Endpoint) -> None:
        """Delete the flows to *vip* that were sent to *endpoint*.

        A failure is logged and not raised: the flows then end by their timeout.
        """
        command = (
            *self._prefix,
            *(PROGRAM, "-D", "-f", f"ipv{vip.address.version}", "-p", str(vip.protocol)),
            *("--orig-dst", str(vip.address), "--orig-port-dst", str(vip.port)),
            *("--reply-src", str(endpoint.address), "--reply-port-src", str(endpoint.port)),
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as error:
            log.warning("flows_not_forgotten", vip=str(vip), error=str(error))
            return
        _, words = await process.communicate()
        said = words.decode(errors="replace").strip()
        if process.returncode != 0 and NOTHING_DELETED not in said:
            log.warning("flows_not_forgotten", vip=str(vip), endpoint=str(endpoint), error=said)
