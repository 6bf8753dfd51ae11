"""``/v1/version``, ``/v1/hosts``, ``/v1/services`` and ``/v1/records`` (reference dns §1.6)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from ipaddress import IPv4Address

from aiohttp import web

from phalanx.core.error import UnavailableError
from phalanx.dns.answer.lookup import place_of
from phalanx.dns.zones.desired import Zones
from phalanx.dns.zones.record import Record, RecordType, Srv
from phalanx.dns.zones.zone import RRsets

SHOWN = (RecordType.A, RecordType.SRV)

Row = Mapping[str, str]


def dns_routes(zones: Callable[[], Zones], *, aliases: Mapping[str, str]) -> Sequence[web.RouteDef]:
    """Return the routes; *zones* is asked anew for each request.

    While a zone is not known for want of a View, what would need it answers
    503: nothing found is not the same as nothing there.
    """

    async def get_version(_: web.Request) -> web.Response:
        return web.json_response(
            {"Service": "phalanx-dns", "Version": version("phalanx"), "URL": ""}
        )

    async def get_host(request: web.Request) -> web.Response:
        name = _absolute(request.match_info["name"])
        rrsets = _rrsets(name, zones(), aliases)
        rows = [{"host": name, "ip": ip} for ip in _addresses(rrsets)]
        return web.json_response(rows or [{"host": "", "ip": ""}])

    async def get_service(request: web.Request) -> web.Response:
        asked = request.match_info["name"]
        found = zones()
        services = _rrsets(_absolute(asked), found, aliases).get(RecordType.SRV, ())
        rows = [
            row
            for service in services
            if isinstance(service, Srv)
            for row in _service_rows(asked, service, found)
        ]
        return web.json_response(rows or [{"service": "", "host": "", "ip": "", "port": ""}])

    async def get_records(_: web.Request) -> web.Response:
        found = zones()
        rows: list[Row] = []
        for apex in sorted(found):
            zone = found[apex]
            if zone is None:
                raise UnavailableError(f"zone {apex!r}: no view of the cluster yet")
            rows += [_row(record) for record in zone.records() if record.type in SHOWN]
        return web.json_response(rows)

    return [
        web.get("/v1/version", get_version),
        web.get("/v1/hosts/{name}", get_host),
        web.get("/v1/services/{name}", get_service),
        web.get("/v1/records", get_records),
    ]


def _absolute(name: str) -> str:
    return f"{name.lower().removesuffix('.')}."


def _rrsets(name: str, zones: Zones, aliases: Mapping[str, str]) -> RRsets:
    """Return what is at *name*; raises UnavailableError while its zone is not known."""
    place = place_of(name, zones, aliases)
    if place is None:
        return {}
    zone = zones[place.apex]
    if zone is None:
        raise UnavailableError(f"zone {place.apex!r}: no view of the cluster yet")
    return zone.names.get(place.canonical(name), {})


def _addresses(rrsets: RRsets) -> Iterable[str]:
    return [str(data) for data in rrsets.get(RecordType.A, ()) if isinstance(data, IPv4Address)]


def _service_rows(asked: str, service: Srv, zones: Zones) -> Iterable[Row]:
    for ip in _addresses(_rrsets(service.target, zones, {})):
        yield {"service": asked, "host": service.target, "ip": ip, "port": str(service.port)}


def _row(record: Record) -> Row:
    data = record.data
    host = f"{data.target}:{data.port}" if isinstance(data, Srv) else str(data)
    return {"name": record.name, "host": host, "rtype": record.type.name}
