"""The HTTP face of the zones."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import ClientSession, web

from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.dns.api.config import shown_config
from phalanx.dns.api.records import dns_routes
from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.settings import DEFAULTS

CONFIG = shown_config(
    DEFAULTS,
    listener="198.51.100.1",
    port=53,
    upstreams=["192.0.2.1"],
    zone_upstreams=["corp.example=10.0.0.1/10.0.0.2"],
)

Get = Callable[[ZoneTable, str], Awaitable[tuple[int, object]]]


@pytest.fixture
async def get() -> AsyncIterator[Get]:
    """Yield a function that serves a table and gets one path from it."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())

        async def fetch(table: ZoneTable, path: str) -> tuple[int, object]:
            app = web.Application(middlewares=[errors_as_json])
            app.add_routes(dns_routes(table, CONFIG))
            [place] = await stack.enter_async_context(serve(app, Listener("127.0.0.1", 0)))
            async with session.get(f"http://{place}{path}") as response:
                text = await response.text()
                is_json = response.content_type == "application/json"
                return response.status, json.loads(text) if is_json else text

        yield fetch


async def test_version_names_the_service(get: Get, zones: ZoneTable) -> None:
    status, body = await get(zones, "/v1/version")

    assert status == 200
    assert isinstance(body, dict)
    assert body["Service"] == "phalanx-dns"
    assert body.keys() == {"Service", "Version", "URL"}


@pytest.mark.parametrize(
    ("name", "host", "ips"),
    [
        ("web.marathon.mesos", "web.marathon.mesos.", ["9.0.0.1", "9.0.0.2", "9.0.0.3"]),
        ("Web.Marathon.mesos.", "web.marathon.mesos.", ["9.0.0.1", "9.0.0.2", "9.0.0.3"]),
        ("web.marathon.dclb.thisdcos.global", "web.marathon.dclb.thisdcos.global.", ["11.0.0.7"]),
        ("nosuch.mesos", "", [""]),
        ("example.com", "", [""]),
    ],
)
async def test_host_has_its_addresses(
    get: Get, zones: ZoneTable, name: str, host: str, ips: list[str]
) -> None:
    answer = await get(zones, f"/v1/hosts/{name}")

    assert answer == (200, [{"host": host, "ip": ip} for ip in ips])


async def test_service_has_targets_with_addresses(get: Get, zones: ZoneTable) -> None:
    _, body = await get(zones, "/v1/services/_leader._tcp.mesos")

    assert body == [
        {
            "service": "_leader._tcp.mesos",
            "host": "leader.mesos.",
            "ip": "198.18.0.1",
            "port": "5050",
        }
    ]


async def test_unknown_service_is_an_empty_element(get: Get, zones: ZoneTable) -> None:
    _, body = await get(zones, "/v1/services/_nosuch._tcp.mesos")

    assert body == [{"service": "", "host": "", "ip": "", "port": ""}]


async def test_records_of_all_zones_are_listed(get: Get, zones: ZoneTable) -> None:
    _, body = await get(zones, "/v1/records")

    assert isinstance(body, list)
    for row in (
        {"name": "ready.spartan.", "host": "127.0.0.1", "rtype": "A"},
        {"name": "_leader._tcp.mesos.", "host": "leader.mesos.:5050", "rtype": "SRV"},
        {"name": "web.marathon.l4lb.thisdcos.directory.", "host": "11.0.0.7", "rtype": "A"},
    ):
        assert row in body
    assert {row["rtype"] for row in body} == {"A", "AAAA", "SRV"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/records", 503),
        ("/v1/hosts/web.marathon.mesos", 503),
        ("/v1/services/_leader._tcp.mesos", 503),
        ("/v1/hosts/ready.spartan", 200),
        ("/v1/version", 200),
    ],
)
async def test_before_the_first_view_nothing_is_denied(
    get: Get, unpublished: ZoneTable, path: str, expected: int
) -> None:
    status, _ = await get(unpublished, path)

    assert status == expected


async def test_config_has_the_names_of_mesos_dns(get: Get, zones: ZoneTable) -> None:
    status, body = await get(zones, "/v1/config")

    assert status == 200
    assert isinstance(body, dict)
    assert (body["Domain"], body["TTL"], body["Resolvers"]) == ("mesos", 5, ["192.0.2.1"])
    assert body["ZoneResolvers"] == {"corp.example": ["10.0.0.1", "10.0.0.2"]}
    assert body["IPSources"] == ["netinfo", "mesos", "host"]


async def test_ports_were_never_implemented(get: Get, zones: ZoneTable) -> None:
    answer = await get(zones, "/v1/hosts/web.marathon.mesos/ports")

    assert answer == (501, "To be implemented...")


async def test_axfr_has_the_whole_zone_by_type(get: Get, zones: ZoneTable) -> None:
    status, body = await get(zones, "/v1/axfr")

    assert status == 200
    assert isinstance(body, dict)
    assert {key: body[key] for key in ("TTL", "Serial", "Domain", "Mname")} == {
        "TTL": 5,
        "Serial": 101,
        "Domain": "mesos",
        "Mname": "ns.spartan.",
    }
    records = body["Records"]
    assert records["AAAAs"] == {}
    assert records["As"]["web.marathon.mesos."] == ["9.0.0.1", "9.0.0.2", "9.0.0.3"]
    assert records["SRVs"]["_leader._tcp.mesos."] == ["leader.mesos.:5050"]


async def test_enumerate_lists_tasks_by_framework(get: Get, zones: ZoneTable) -> None:
    status, body = await get(zones, "/v1/enumerate")

    assert status == 200
    assert isinstance(body, dict)
    [framework] = body["frameworks"]
    assert (framework["name"], len(framework["tasks"])) == ("marathon", 103)
    [first] = [task for task in framework["tasks"] if task["id"] == "web.1"]
    assert first["name"] == "web"
    assert {"name": "web.marathon.mesos.", "host": "9.0.0.1", "rtype": "A"} in first["records"]
    assert {record["rtype"] for record in first["records"]} == {"A", "SRV"}


@pytest.mark.parametrize("path", ["/v1/axfr", "/v1/enumerate", "/v1/records"])
async def test_whole_zones_wait_for_a_view(get: Get, unpublished: ZoneTable, path: str) -> None:
    status, _ = await get(unpublished, path)

    assert status == 503
