"""``GET /v1/vips`` over a real socket."""

from ipaddress import IPv4Address

from aiohttp import ClientSession, web

from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import UnavailableError
from phalanx.lb.api.vips import vips_route
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase, TaskPort, VipLease
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


async def answer(route: web.RouteDef) -> tuple[int, object]:
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes([route])
    async with serve(app, Listener("127.0.0.1", 0)) as (listener,), ClientSession() as session:
        assert isinstance(listener, Listener)
        url = f"http://127.0.0.1:{listener.port}/v1/vips"
        async with session.get(url) as response:
            return response.status, await response.json()


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
