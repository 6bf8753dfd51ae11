"""One worker: ``python -m phalanx.dns.workers.worker FD``; the socket leads to its plane."""

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack
from ipaddress import IPv4Address

import structlog

from phalanx.core.collector import calm_collector, set_aside_now_and_then
from phalanx.core.daemon import run_daemon
from phalanx.core.log import configure_log
from phalanx.dns.admission import Admission, parse_networks
from phalanx.dns.answer.cookie import Cookies
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.forward.upstream import parse_upstream
from phalanx.dns.publish import ZoneTable
from phalanx.dns.querylog import QueryLog
from phalanx.dns.server import DnsServer, Sharing
from phalanx.dns.tally import tally_of
from phalanx.dns.workers.message import (
    COUNT_SECONDS,
    LENGTH,
    Probed,
    Publish,
    Route,
    Start,
    framed,
    held_of,
    parse_to_worker,
    published,
)
from phalanx.dns.zones.ledger import HeldVips
from phalanx.net.model.view import View

log = structlog.get_logger()


class Worker:
    """Follows what its plane says, and serves once it knows what the plane knows."""

    def __init__(self, start: Start, writer: asyncio.StreamWriter) -> None:
        self._start = start
        self._writer = writer
        self._forwarder = Forwarder()
        self._zones = ZoneTable(
            node=IPv4Address(start.node),
            servers=[IPv4Address(each) for each in start.servers],
            settings=start.settings,
            serial=start.serial,
            foreign=self._forwarder.recent,
        )
        self._view = View()
        self._held: HeldVips | None = None
        self._server: DnsServer | None = None
        self._forwarder.probed = self._tell_probe

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Serve until the plane is gone."""
        awaited: set[type] = {Route, Publish} if self._start.awaits_view else {Route}
        async with AsyncExitStack() as stack:
            counting = asyncio.get_running_loop().create_task(self._count())
            stack.callback(counting.cancel)
            while True:
                message = parse_to_worker(await _read(reader))
                if isinstance(message, Route):
                    self._route(message)
                elif isinstance(message, Publish):
                    self._publish(message)
                    await asyncio.sleep(0)  # others may wait behind it, and clients
                awaited.discard(type(message))
                if self._server is None and not awaited:
                    calm_collector()  # before anybody asks: it looks at all there is
                    self._server = await stack.enter_async_context(self._dns())

    def _dns(self) -> DnsServer:
        start = self._start
        [port] = {port for _, port in start.places}
        return DnsServer(
            self._zones,
            self._forwarder,
            addresses=[host for host, _ in start.places],
            port=port,
            admission=Admission(
                allowed=parse_networks("dns-allow", start.allowed),
                transfers=parse_networks("dns-transfer", start.transfers),
                per_second=start.per_second,
            ),
            cookies=Cookies(start.secrets[0], start.secrets[1:]),
            query_log=QueryLog(start.query_log),
            sharing=Sharing.JOINS,
        )

    def _publish(self, message: Publish) -> None:
        self._view, touched = published(self._view, message)
        self._held = held_of(message, self._held)
        self._zones.ledger.serial = (message.serial - 1) % 2**32
        self._zones.publish(self._view, self._held, touched)

    def _route(self, message: Route) -> None:
        forwarder = self._forwarder
        if forwarder.asked_for != (message.upstreams, message.zones):
            forwarder.reroute(message.upstreams, message.zones)
            self._zones.set_forwards(forwarder.forwards)
        forwarder.believe([parse_upstream(each) for each in message.leading_back])

    def _tell_probe(self, question: bytes) -> None:
        self._writer.write(framed(Probed(question)))

    async def _count(self) -> None:
        """Tell now and then what was counted; it shows that we are well, too."""
        while True:
            self._writer.write(framed(tally_of(self._zones, self._forwarder, self._server)))
            await asyncio.sleep(COUNT_SECONDS)


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return await reader.readexactly(length)


async def _run(fd: int) -> None:
    sock = socket.socket(fileno=fd)
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    try:
        start = parse_to_worker(await _read(reader))
        assert isinstance(start, Start)
        configure_log("plane", level=start.log_level)
        async with asyncio.TaskGroup() as group:
            aside = group.create_task(set_aside_now_and_then())
            await Worker(start, writer).run(reader)
            aside.cancel()
    except* (EOFError, OSError):
        log.info("dns_worker_stopped", pid=os.getpid())  # the plane is gone
    finally:
        writer.close()


if __name__ == "__main__":
    sys.exit(run_daemon(lambda: _run(int(sys.argv[1]))))
