"""The HTTP API of Mesos-DNS and of DC/OS' DNS (reference dns §1.6, dcos-net §2.9)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from importlib.metadata import version

from aiohttp import web

from phalanx.core.error import UnavailableError
from phalanx.dns.answer.lookup import place_of
from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.desired import Zones
from phalanx.dns.zones.record import Record, RecordType, Srv
from phalanx.dns.zones.zone import RRsets, Zone

ADDRESSES = (RecordType.A, RecordType.AAAA)
SHOWN = (*ADDRESSES, RecordType.SRV)
ROWS_PER_TURN = 500  # made before others on the event loop have their turn

Row = Mapping[str, str]


def dns_routes(table: ZoneTable, config: Mapping[str, object]) -> Sequence[web.RouteDef]:
    """Return the routes; *config* is what ``/v1/config`` shows.

    While a zone is not known for want of a View, what would need it answers
    503: nothing found is not the same as nothing there. Long answers are made
    bit by bit, so what changes meanwhile may be in them or not.
    """
    aliases = table.aliases

    async def get_version(_: web.Request) -> web.Response:
        return web.json_response(
            {"Service": "phalanx-dns", "Version": version("phalanx"), "URL": ""}
        )

    async def get_config(_: web.Request) -> web.Response:
        return web.json_response(config)

    async def get_host(request: web.Request) -> web.Response:
        name = _absolute(request.match_info["name"])
        rrsets = _rrsets(name, table.zones, aliases)
        rows = [{"host": name, "ip": ip} for ip in _addresses(rrsets)]
        return web.json_response(rows or [{"host": "", "ip": ""}])

    async def get_ports(_: web.Request) -> web.Response:
        return web.Response(status=501, text="To be implemented...")

    async def get_service(request: web.Request) -> web.Response:
        asked = request.match_info["name"]
        found = table.zones
        services = _rrsets(_absolute(asked), found, aliases).get(RecordType.SRV, ())
        rows = [
            row
            for service in services
            if isinstance(service, Srv)
            for row in _service_rows(asked, service, found)
        ]
        return web.json_response(rows or [{"service": "", "host": "", "ip": "", "port": ""}])

    async def get_records(request: web.Request) -> web.StreamResponse:
        found = table.zones
        zones = [_known(apex, found[apex]) for apex in sorted(found)]

        async def rows() -> AsyncIterator[object]:
            for zone in zones:
                async for record in _records(zone):
                    yield _row(record)

        return await _stream(request, rows())

    async def get_axfr(_: web.Request) -> web.Response:
        settings = table.settings
        zone = _known(settings.apex, table.zones[settings.apex])
        records: dict[str, dict[str, list[str]]] = {"As": {}, "AAAAs": {}, "SRVs": {}}
        async for record in _records(zone):
            row = _row(record)
            records[f"{row['rtype']}s"].setdefault(record.name, []).append(row["host"])
        soa = zone.soa
        return web.json_response(
            {
                "TTL": settings.ttl_seconds,
                "Serial": soa.serial,
                "RefreshSeconds": 0,
                "Mname": soa.mname,
                "Rname": soa.rname,
                "Domain": settings.domain,
                "Records": records,
            }
        )

    async def get_enumerate(_: web.Request) -> web.Response:
        _known(table.settings.apex, table.zones[table.settings.apex])
        frameworks: dict[str, list[object]] = {}
        for number, (framework, task) in enumerate(table.ledger.placed()):
            if number % ROWS_PER_TURN == 0:
                await asyncio.sleep(0)
            records = [
                _row(record)
                for record in table.ledger.task_records(task.key)
                if record.type in SHOWN and record.name.endswith(f".{table.settings.apex}")
            ]
            tasks = frameworks.setdefault(framework, [])
            tasks.append({"name": task.name, "id": task.id, "records": records})
        return web.json_response(
            {"frameworks": [{"name": name, "tasks": tasks} for name, tasks in frameworks.items()]}
        )

    return [
        web.get("/v1/version", get_version),
        web.get("/v1/config", get_config),
        web.get("/v1/hosts/{name}", get_host),
        web.get("/v1/hosts/{name}/ports", get_ports),
        web.get("/v1/services/{name}", get_service),
        web.get("/v1/records", get_records),
        web.get("/v1/axfr", get_axfr),
        web.get("/v1/enumerate", get_enumerate),
    ]


async def _records(zone: Zone) -> AsyncIterator[Record]:
    """Yield the shown records of the names that the zone had at the start."""
    for number, name in enumerate(sorted(zone.names)):
        if number % ROWS_PER_TURN == 0:
            await asyncio.sleep(0)
        for type_, rrset in sorted(zone.names.get(name, {}).items()):
            if type_ in SHOWN:
                for data in rrset:
                    yield Record(name, type_, data)


async def _stream(request: web.Request, rows: AsyncIterator[object]) -> web.StreamResponse:
    """Send the rows as one JSON array, piece by piece."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    pending, begin = [], "["
    async for row in rows:
        pending.append(json.dumps(row))
        if len(pending) == ROWS_PER_TURN:
            await response.write((begin + ",".join(pending)).encode())
            pending, begin = [], ","
    await response.write(
        ((begin if pending or begin == "[" else "") + ",".join(pending) + "]").encode()
    )
    await response.write_eof()
    return response


def _known(apex: str, zone: Zone | None) -> Zone:
    if zone is None:
        raise UnavailableError(f"zone {apex!r}: no view of the cluster yet")
    return zone


def _absolute(name: str) -> str:
    return f"{name.lower().removesuffix('.')}."


def _rrsets(name: str, zones: Zones, aliases: Mapping[str, str]) -> RRsets:
    """Return what is at *name*; raises UnavailableError while its zone is not known."""
    place = place_of(name, zones, aliases)
    if place is None:
        return {}
    zone = _known(place.apex, zones[place.apex])
    return zone.names.get(place.canonical(name), {})


def _addresses(rrsets: RRsets) -> Iterable[str]:
    return [str(data) for type_ in ADDRESSES for data in rrsets.get(type_, ())]


def _service_rows(asked: str, service: Srv, zones: Zones) -> Iterable[Row]:
    for ip in _addresses(_rrsets(service.target, zones, {})):
        yield {"service": asked, "host": service.target, "ip": ip, "port": str(service.port)}


def _row(record: Record) -> Row:
    data = record.data
    host = f"{data.target}:{data.port}" if isinstance(data, Srv) else str(data)
    return {"name": record.name, "host": host, "rtype": record.type.name}
