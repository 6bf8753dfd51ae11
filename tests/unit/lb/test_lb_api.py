"""What the node API says of VIPs, over a real socket."""

import re
from collections.abc import Coroutine
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import ClientSession, web
from prometheus_client.parser import text_string_to_metric_families

from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import DataplaneError, UnavailableError
from phalanx.lb.api.services import service_routes
from phalanx.lb.api.vips import vips_route
from phalanx.lb.desired import desired_services
from phalanx.lb.metrics import LbMetrics
from phalanx.lb.service import Endpoint, Vip
from phalanx.lb.traffic import Counted, ReadTraffic, Traffic, no_traffic
from phalanx.lb.watch import ProblemWatch
from phalanx.net.model.objects import (
    Framework,
    Network,
    Node,
    Task,
    TaskPhase,
    TaskPort,
    VipLease,
)
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.11")
VIEW = View().changed(
    (
        Node(address=NODE, hostname="a1"),
        Framework(id="f", name="marathon"),
        VipLease(name="web.marathon", address=IPv4Address("11.225.37.143")),
        *(
            Task(
                framework_id="f",
                id=f"t{number}",
                name="web",
                agent_id="A",
                node=NODE,
                phase=phase,
                ports=(
                    TaskPort(
                        number=31000 + number,
                        labels=(("VIP_0", "/web:80"), ("VIP_1", "1.2.3.4:81")),
                    ),
                ),
            )
            for number, phase in ((0, TaskPhase.RUNNING), (1, TaskPhase.KILLING))
        ),
    )
)
BACKENDS = [
    {"ip": "198.18.0.11", "port": 31000, "weight": 1},
    {"ip": "198.18.0.11", "port": 31001, "weight": 0},
]


async def answer(*routes: web.RouteDef, path: str = "/v1/vips") -> tuple[int, Any]:
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes(routes)
    async with serve(app, Listener("127.0.0.1", 0)) as (listener,), ClientSession() as session:
        assert isinstance(listener, Listener)
        url = f"http://127.0.0.1:{listener.port}{path}"
        async with session.get(url) as response:
            return response.status, await response.json()


def service_answer(
    path: str, view: View = VIEW, traffic: ReadTraffic = no_traffic
) -> Coroutine[None, None, tuple[int, Any]]:
    return answer(*service_routes(lambda: view, node=NODE, traffic=traffic), path=path)


async def test_vips_are_listed_in_dcos_form_with_address_and_weight() -> None:
    status, body = await answer(vips_route(lambda: VIEW))

    assert status == 200
    assert body == [
        {"vip": "1.2.3.4:81", "protocol": "tcp", "address": "1.2.3.4", "backend": BACKENDS},
        {
            "vip": "web.marathon.l4lb.thisdcos.directory:80",
            "protocol": "tcp",
            "address": "11.225.37.143",
            "backend": BACKENDS,
        },
    ]


async def test_no_view_yet_is_unavailable() -> None:
    def not_yet() -> View:
        raise UnavailableError("no view yet")

    status, body = await answer(vips_route(not_yet))

    assert (status, body) == (503, {"error": "no view yet"})


async def test_vips_of_both_families_are_listed() -> None:
    six = IPv6Address("fd01:c::1")
    task = VIEW.tasks["f/t0"]
    dual = VIEW.changed(
        (
            VipLease("web.marathon", IPv4Address("11.225.37.143"), six),
            Network("six", None, 0, 1, 1450, True, IPv6Network("fd01:b::/64"), 80),
            msgspec.structs.replace(
                task, networks6=("six",), addresses6=(IPv6Address("fd01:b::2"),)
            ),
        )
    )

    status, body = await answer(vips_route(lambda: dual))

    assert status == 200
    [last] = [each for each in body if each["address"] == str(six)]
    assert last["vip"] == "web.marathon.l4lb.thisdcos.directory:80"
    assert last["backend"] == [{"ip": "fd01:b::2", "port": 31000, "weight": 1}]


async def test_answer_that_has_not_changed_is_not_sent_again() -> None:
    app = web.Application()
    app.add_routes([vips_route(lambda: VIEW)])
    async with serve(app, Listener("127.0.0.1", 0)) as (listener,), ClientSession() as session:
        assert isinstance(listener, Listener)
        url = f"http://127.0.0.1:{listener.port}/v1/vips"
        async with session.get(url) as first:
            tag = first.headers["ETag"]
        async with session.get(url, headers={"If-None-Match": tag}) as same:
            unchanged = same.status
        async with session.get(url, headers={"If-None-Match": '"other"'}) as other:
            changed = other.status

    assert (unchanged, changed) == (304, 200)


WEB_ADDRESS = IPv4Address("11.225.37.143")
WEB = Vip(WEB_ADDRESS, 80)


async def counted(*, with_open: bool = False) -> Traffic:
    return {
        (WEB, Endpoint(NODE, 31000)): Counted(7),
        (WEB, Endpoint(NODE, 31001)): Counted(2, 1, 30, 40),
        (WEB, Endpoint(NODE, 9)): Counted(99),
        (Vip(IPv4Address("172.17.0.1"), 80), Endpoint(NODE, 9)): Counted(5),
    }


async def test_service_is_shown_with_tasks_reasons_and_counters() -> None:
    status, body = await service_answer("/v1/services?name=web", traffic=counted)

    assert status == 200
    [web_service] = body["services"]
    assert web_service["vip"] == "web.marathon.l4lb.thisdcos.directory:80"
    assert (web_service["state"], web_service["scheduler"]) == ("serving", "wlc")
    assert (web_service["connections"], web_service["active"]) == (9, 1)
    first, second = web_service["backends"]
    assert (first["task"], first["weight"], first["reason"], first["connections"]) == (
        *("t0", 1, None, 7),
    )
    assert (second["weight"], second["active"], second["bytes_out"]) == (0, 1, 40)
    assert "being killed" in second["reason"]
    assert (first["hostname"], first["framework"], first["node_state"]) == (
        *("a1", "marathon", "alive"),
    )


async def test_every_field_of_an_answer_is_in_the_reference() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/vip-api.md").read_text()
    documented = set(re.findall(r"`(\w+)`", page))

    _, services = await service_answer("/v1/services?name=web", traffic=counted)
    _, problems = await service_answer("/v1/vip-problems", BAD)
    _, vips = await answer(vips_route(lambda: VIEW))

    for each in (*services["services"], *problems["problems"], *vips):
        assert each.keys() <= documented
        for backend in (*each.get("backends", ()), *each.get("backend", ())):
            assert backend.keys() <= documented


async def test_all_services_are_listed_without_a_name() -> None:
    _, body = await service_answer("/v1/services")

    assert [each["address"] for each in body["services"]] == ["1.2.3.4", "11.225.37.143"]


async def test_name_that_nobody_declares_is_not_found() -> None:
    status, body = await service_answer("/v1/services?name=nosuch")

    assert (status, body) == (404, {"error": "no task declares a VIP 'nosuch'"})


async def test_label_that_may_have_been_meant_is_told_to_who_asks_for_its_name() -> None:
    alone = BAD.changed((), [("task", "f/t1")])

    status, body = await service_answer("/v1/services?name=web.marathon:80", alone)

    assert status == 404
    assert body["error"].startswith("no task declares a VIP 'web.marathon:80'; VIP_0=web: ")


async def test_kernel_that_can_not_be_asked_costs_the_counters_only() -> None:
    async def refused(*, with_open: bool = False) -> Traffic:
        raise DataplaneError("busy", table="phalanx_lb_traffic")

    status, body = await service_answer("/v1/services?name=web", traffic=refused)

    assert status == 200
    assert body["services"][0]["backends"][0]["connections"] is None


BAD = VIEW.changed(
    [msgspec.structs.replace(VIEW.tasks["f/t0"], ports=(TaskPort(80, labels=(("VIP_0", "web"),)),))]
)


async def test_problems_are_listed() -> None:
    status, body = await service_answer("/v1/vip-problems", BAD)

    assert status == 200
    [problem] = body["problems"]
    assert (problem["vip"], problem["label"], problem["tasks"]) == (None, "VIP_0=web", ["f/t0"])
    assert "no port" in problem["reason"]


async def test_problem_is_logged_once() -> None:
    watch = ProblemWatch(lambda: BAD)

    with structlog.testing.capture_logs() as logs:
        await watch.look(BAD)
        await watch.look(BAD)
        await watch.look(VIEW)

    assert [each["event"] for each in logs] == ["vip_problem"]
    assert watch.problems == ()


async def test_metrics_say_states_and_connections_of_vips_only() -> None:
    metrics = LbMetrics(lambda: VIEW, lambda: desired_services(VIEW), lambda: (1,), counted)

    first, second = await metrics.text(), await metrics.text()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(first.decode())
        for sample in metric.samples
    }

    named = "web.marathon:80"
    address = "11.225.37.143"
    assert samples == {
        ("phalanx_lb_vips", "serving"): 2,
        ("phalanx_lb_vips", "refusing"): 0,
        ("phalanx_lb_backends", "eligible"): 2,
        ("phalanx_lb_backends", "drained"): 2,
        ("phalanx_lb_label_problems",): 1,
        ("phalanx_lb_connections_total", address, "198.18.0.11:31000", "tcp", named): 7,
        ("phalanx_lb_connections_total", address, "198.18.0.11:31001", "tcp", named): 2,
        ("phalanx_lb_connections_total", address, "198.18.0.11:9", "tcp", named): 99,
        ("phalanx_lb_bytes_total", address, "198.18.0.11:31001", "tcp", named, "in"): 30,
        ("phalanx_lb_bytes_total", address, "198.18.0.11:31001", "tcp", named, "out"): 40,
    }
    assert second == first


async def test_metrics_name_a_vip_as_it_is_named_now() -> None:
    renamed = VIEW.changed([VipLease("shop.marathon", WEB_ADDRESS)], [("vip", "web.marathon")])
    views = [VIEW, renamed]
    metrics = LbMetrics(lambda: views.pop(0), lambda: desired_services(VIEW), lambda: (), counted)

    first, second = await metrics.text(), await metrics.text()

    assert b'vip="web.marathon:80"' in first
    assert b'vip="shop.marathon:80"' in second
    assert b"web.marathon" not in second
