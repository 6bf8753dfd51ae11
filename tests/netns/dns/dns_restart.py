"""Serve a small cluster's names on 127.0.0.1, on sockets that a service manager keeps."""

import asyncio
import sys
from ipaddress import IPv4Address

import uvloop

from phalanx.core.log import configure_log
from phalanx.core.service import SocketStore
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer


async def main() -> None:
    """Serve until killed, or until standard input ends; print the port."""
    zones = ZoneTable(node=IPv4Address("198.18.0.2"), servers=[])
    store = SocketStore()
    async with DnsServer(
        zones, Forwarder(), addresses=["127.0.0.1"], port=0, store=store
    ) as server:
        sys.stdout.write(f"{server.listening[0].port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    configure_log("dns", level="warning")
    uvloop.run(main())
