"""The plane: opens every part, starts the loops, is the only place that knows all of them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.core.collector import calm_collector, set_aside_now_and_then, without_collector
from phalanx.core.config import HostPort
from phalanx.core.daemon import run_daemon
from phalanx.core.error import DataplaneError
from phalanx.core.log import configure_log
from phalanx.core.service import SocketStore
from phalanx.dns.answer.cookie import Cookies, new_secret
from phalanx.dns.api.config import shown_config
from phalanx.dns.api.records import dns_routes
from phalanx.dns.api.resolve import resolve_route
from phalanx.dns.follow import follow_once, follow_upstreams
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.metrics import DnsCollector
from phalanx.dns.publish import ZoneTable
from phalanx.dns.querylog import QueryLog
from phalanx.dns.resolvconf import DNS_PORT
from phalanx.dns.server import DnsServer, Sharing
from phalanx.lb.api.services import service_routes
from phalanx.lb.api.vips import vips_route
from phalanx.lb.ledger import ServiceLedger, Services
from phalanx.lb.metrics import LbMetrics
from phalanx.lb.names import names_of
from phalanx.lb.traffic import ReadTraffic
from phalanx.lb.watch import ProblemWatch
from phalanx.net.address.here import is_here
from phalanx.net.api.feed import feed_route
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.ipam.store import AddressStore, boot_id
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.net.nft.library import Nft
from phalanx.net.rtnl.kernel import Rtnl
from phalanx.plane.alone import alone_in
from phalanx.plane.api.node import Status, node_routes
from phalanx.plane.api.overlay import overlay_route
from phalanx.plane.api.peer import Peers
from phalanx.plane.api.trace import TraceApi
from phalanx.plane.cni.left import LeftBehind
from phalanx.plane.cni.server import CniServer
from phalanx.plane.config import LOADER, PlaneConfig
from phalanx.plane.drift import drift_watched
from phalanx.plane.mirror import Mirror
from phalanx.plane.names import Names
from phalanx.plane.progress import Progress
from phalanx.plane.resolvconf import ResolvConfKeeper
from phalanx.plane.sequence import TableSequence
from phalanx.plane.tables import NFT_TABLES, build_tables
from phalanx.plane.taken import TakenAddresses
from phalanx.plane.walls import Walls
from phalanx.plane.workers import worker_pool

log = structlog.get_logger()

GRACE_SECONDS = 3.0  # how long a new process waits for the feed before it uses the disk's View


def main(arguments: Sequence[str]) -> int:
    """Run a plane until SIGTERM; return the exit status, 2 for bad configuration."""

    async def run() -> None:
        config = LOADER.load(arguments)
        configure_log("plane", level=config.log_level)
        calm_collector()  # a full look at 100,000 tasks would keep names waiting for a second
        with without_collector():
            plane = Plane(config)  # reads the View from disk
        await plane.run()

    return run_daemon(run)


class Plane:
    """One node's plane."""

    def __init__(self, config: PlaneConfig) -> None:
        self._config = config
        self._registry = CollectorRegistry()
        self._forwarder = Forwarder(config.name_servers(), zones=config.zone_upstreams)
        self._zones = ZoneTable(
            node=config.ip,
            servers=config.dns_listen,
            settings=config.zones,
            serial=int(time.time()),
            forwards=self._forwarder.forwards,
            foreign=self._forwarder.recent,
        )
        self._store = SocketStore()
        self._names = DnsCollector(self._zones, self._forwarder)
        self._registry.register(self._names)
        self._cookies = config.cookies or Cookies(new_secret())
        self._workers = worker_pool(
            config,
            self._zones,
            self._forwarder,
            cookies=self._cookies,
            listening=lambda: () if self._names.server is None else self._names.server.listening,
        )
        self._names.others = self._workers.tallies
        self._gauge(
            "phalanx_plane_in_sync",
            "1 if the View came by the feed and every table holds it",
            lambda: float(self._status().in_sync),
        )
        self._gauge(
            "phalanx_plane_view_sequence",
            "number of the newest View",
            lambda: float(self._status().sequence),
        )
        self._mirror = Mirror(
            [place.url for place in config.source],
            config.state_dir / "view.json",
            changed=lambda: self._sequence.poke(),
        )
        self._peers = Peers(lambda: self._mirror.view, node=config.ip, port=config.peer_port)
        self._taken = TakenAddresses()
        self._ledger = ServiceLedger(
            node=config.ip, pools=(config.vip_range, config.vip_range6), taken=self._taken.now
        )
        self._progress = Progress(self._mirror)
        self._published = Names(self._zones)
        self._walled: View | None = None  # what the isolation table holds
        self._stand_in = LeftBehind(config)
        self._traced = Walls(config)  # what it should hold, for those who ask
        self._served: Services | None = None  # what the load balancer held last

    async def run(self) -> None:
        """Open everything and run until cancelled."""
        config = self._config
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(alone_in(config.state_dir))
            rtnl, nft = Rtnl(), Nft()
            stack.callback(rtnl.close)
            stack.callback(nft.close)
            links = KernelLinks()
            stack.callback(links.close)
            tables, self._balancer, traffic = build_tables(
                config,
                self._view_of_pass,
                self._services_of_pass,
                lambda: self._progress.is_much,
                rtnl=rtnl,
                nft=nft,
                links=links,
            )
            await self._taken.look()
            self._problems = ProblemWatch(lambda: self._mirror.view, taken=self._taken.now)
            self._balancing = LbMetrics(
                self._known,
                lambda: {} if self._served is None else self._served.by_vip,
                lambda: self._problems.problems,
                traffic,
            )
            self._sequence = TableSequence(
                tables,
                begin=self._begin,
                done=self._done,
                resync_seconds=config.resync,
                registry=self._registry,
            )
            await self._sequence.run_once(resync=True)  # puts the resolver's addresses in place
            if self._mirror.view is not None:
                view = self._mirror.view  # the kernel still holds what it held
                with without_collector():
                    self._published.publish(view, names_of(view, node=config.ip))
            server = await stack.enter_async_context(self._dns())
            if config.cni_config_dir is not None:
                await stack.enter_async_context(await self._cni(links))
            self._trace = TraceApi(
                lambda: self._mirror.view,
                self._walls,
                node=config.ip,
                nft=nft,
                peers=self._peers,
            )
            await stack.enter_async_context(serve(self._api(traffic), *self._api_places()))
            await self._peers.serve(stack, self._trace.routes_for_nodes())
            if config.feed_port:
                relay = web.Application(middlewares=[errors_as_json])
                relay.add_routes([feed_route(lambda: self._mirror.relay)])
                place = Listener(str(config.ip), config.feed_port)
                await stack.enter_async_context(serve(relay, place))
            if config.mesos_dns_port:
                names = web.Application(middlewares=[errors_as_json])
                names.add_routes(self._dns_routes())
                place = Listener(str(config.ip), config.mesos_dns_port)
                await stack.enter_async_context(serve(names, place))
            stack.enter_context(drift_watched(self._sequence, *NFT_TABLES, node=config.ip))
            async with asyncio.TaskGroup() as group:
                group.create_task(set_aside_now_and_then())
                group.create_task(self._mirror.run())
                group.create_task(self._mirror.keep())
                group.create_task(self._sequence.run())
                group.create_task(self._lose_patience())
                group.create_task(
                    follow_upstreams(
                        config.name_servers,
                        self._forwarder,
                        self._zones,
                        zone_upstreams=config.zone_upstreams,
                    )
                )
                group.create_task(self._problems.run())
                group.create_task(self._taken.run(self._sequence.poke, pause=config.resync))
                group.create_task(self._workers.run())
                if config.resolv_conf is not None:
                    keeper = self._resolv_conf(config.resolv_conf, server)
                    stack.push(keeper.leave)
                    group.create_task(keeper.run())

    def _dns(self) -> DnsServer:
        server = DnsServer(
            self._zones,
            self._forwarder,
            addresses=[*self._resolvers(), *self._config.dns_listen_also],
            admission=self._config.admission,
            cookies=self._cookies,
            query_log=QueryLog(self._config.dns_query_log),
            store=self._store,
            port=self._config.dns_port,
            sharing=Sharing.ALONE if self._config.dns_workers == 1 else Sharing.FIRST,
        )
        self._names.server = server
        return server

    def _resolvers(self) -> Sequence[str]:
        """Return the resolver's addresses; a kernel that refuses IPv6's costs these only."""
        missing = [str(each) for each in self._config.dns_listen6 if not is_here(each)]
        if self._config.has_ipv6 and missing:
            log.warning("resolver_addresses_missing", addresses=missing)
        return [each for each in map(str, self._config.resolvers) if each not in missing]

    def _resolv_conf(self, path: Path, server: DnsServer) -> ResolvConfKeeper:
        addresses = [str(each) for each in self._config.dns_listen]

        def listening() -> Sequence[str]:
            at = {place.host for place in server.listening if place.port == DNS_PORT}
            return [each for each in addresses if each in at]

        def upstreams() -> Sequence[HostPort]:
            """Return them as the file names them that may be about to be overwritten."""
            self._follow_upstreams()
            return self._forwarder.routes.default

        return ResolvConfKeeper(
            path,
            self._config.resolver_file,
            before=self._config.state_dir / "resolv.conf.before",
            listening=listening,
            upstreams=upstreams,
            sockets_stay=self._store.keeps,
        )

    def _follow_upstreams(self) -> None:
        config = self._config
        follow_once(
            config.name_servers(),
            self._forwarder,
            self._zones,
            zone_upstreams=config.zone_upstreams,
        )

    async def _cni(self, links: KernelLinks) -> CniServer:
        addresses = AddressStore(self._config.state_dir / "ipam", boot=boot_id())
        attachments = Attachments(links, addresses, KernelHostPorts())
        try:
            await asyncio.get_running_loop().run_in_executor(
                links.thread, self._stand_in.alone(attachments.sweep)
            )
        except (DataplaneError, OSError) as error:
            log.warning("leases_not_swept", error=str(error))
        return CniServer(
            self._config.cni_socket,
            node=self._config.ip,
            view=lambda: self._mirror.view,
            walled=lambda: self._walled,
            in_sync=lambda: self._mirror.is_heard,
            attachments=attachments,
            thread=links.thread,
            leaving=links.leaving,
        )

    def _api(self, traffic: ReadTraffic) -> web.Application:
        app = web.Application(middlewares=[errors_as_json])
        app.add_routes(
            [
                *node_routes(self._status, self._registry, self._balancing.text),
                *self._dns_routes(),
                resolve_route(self._zones, self._forwarder),
                vips_route(self._known, taken=self._taken.now),
                overlay_route(self._known, self._status, node=self._config.ip),
                *self._trace.routes(),
                *self._peers.routes(),
                *service_routes(
                    self._known, node=self._config.ip, traffic=traffic, taken=self._taken.now
                ),
            ]
        )
        return app

    def _walls(self, view: View) -> Mapping[Element, None]:
        vips = () if self._served is None else self._served.outside
        return self._traced.desired_of(view, vips)

    def _known(self) -> View:
        return self._mirror.view or View()

    def _dns_routes(self) -> Sequence[web.RouteDef]:
        config = self._config
        shown = shown_config(
            config.zones,
            listener=",".join(map(str, config.dns_listen)),
            port=config.dns_port,
            upstreams=[str(upstream) for upstream in self._forwarder.routes.default],
            zone_upstreams=config.zone_upstreams,
        )
        return dns_routes(self._zones, shown)

    def _api_places(self) -> list[Listener | Path]:
        places: list[Listener | Path] = [self._config.socket]
        if self._config.api_port:
            places.append(Listener("127.0.0.1", self._config.api_port))
        return places

    def _gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        Gauge(name, about, registry=self._registry).set_function(value)

    def _view_of_pass(self) -> View | None:
        return self._progress.view

    def _services_of_pass(self) -> Services | None:
        view = self._progress.view
        return None if view is None else self._follow_services(view)

    def _follow_services(self, view: View) -> Services:
        return self._ledger.follow(view, self._progress.changes(self._ledger.view))

    async def _begin(self) -> None:
        """Take the View of this pass; find the services that it asks for where that takes long."""
        self._progress.begin()
        view = self._progress.view
        if view is None:
            return
        if self._progress.changes(self._ledger.view) is None or self._progress.is_much:
            with suppress(Exception):  # then the tables will say it
                await asyncio.to_thread(self._follow_services, view)

    async def _lose_patience(self) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        self._progress.lose_patience()
        self._sequence.poke()

    async def _done(self, outcome: Mapping[str, bool]) -> None:
        """Publish names for what the load balancer holds, and remember how far we are."""
        view = self._progress.view
        if view is not None:
            if outcome[ISOLATION.table]:
                self._walled = view
                self._stand_in.save(view)
            held = self._published.held
            if self._balancer.held is not None:  # else: what was held before still is
                self._served = self._balancer.held
                held = self._served.names
            changes = self._progress.changes(self._published.view)
            await self._published.follow(view, held, changes)
        self._progress.end(outcome)

    def _status(self) -> Status:
        numbered = self._mirror.numbered
        return Status(
            node=str(self._config.ip),
            in_sync=self._progress.is_in_sync,
            epoch=None if numbered is None else numbered.position.epoch,
            sequence=0 if numbered is None else numbered.position.sequence,
            applied=self._progress.applied,
            tables=self._progress.outcome,
        )
