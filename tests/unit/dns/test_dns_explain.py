"""Why a name has its answer: the object behind each record, and what was left out."""

import json
import socket
from ipaddress import IPv4Address

import msgspec
import pytest
from aiohttp import ClientSession, web

from phalanx.cli.resolve import data_of, short, traced
from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.dns.api.resolve import resolve_route
from phalanx.dns.explain.own import Explanation, explain_own
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.net.model.objects import Liveness, Node, Task, TaskPhase, VipLease
from phalanx.net.model.view import View

WEB = "web.marathon.mesos."


def explained(zones: ZoneTable, name: str) -> Explanation:
    found = explain_own(zones.ledger, zones.zones, zones.aliases, name)
    assert found is not None
    return found


def changed(view: View, **fields: object) -> Task:
    return msgspec.structs.replace(view.tasks["f/web.1"], **fields)


def test_each_record_has_its_task(zones: ZoneTable) -> None:
    own = explained(zones, WEB)

    assert {(str(each.data), each.source["task"]) for each in own.answering} == {
        ("9.0.0.1", "web.1"),
        ("9.0.0.2", "web.2"),
        ("9.0.0.3", "web.3"),
    }
    assert (own.zone, own.left_out, own.unnamed) == ("mesos.", (), ())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"is_checked": True, "healthy": False}, "failed its health check"),
        ({"is_checked": True}, "has not passed its health check yet"),
    ],
)
def test_task_that_is_not_well_is_left_out_with_the_reason(
    zones: ZoneTable, view: View, fields: dict[str, object], reason: str
) -> None:
    zones.publish(view.changed([changed(view, **fields)]))

    own = explained(zones, WEB)

    assert {str(each.data) for each in own.answering} == {"9.0.0.2", "9.0.0.3"}
    [left] = own.left_out
    assert str(left.data) == "9.0.0.1"
    assert reason in left.reason


def test_silent_node_is_the_reason_of_its_tasks(zones: ZoneTable, view: View) -> None:
    other = IPv4Address("198.18.0.3")
    suspect = Node(other, "a2", agent_id="x-S1", liveness=Liveness.SUSPECT)
    zones.publish(view.changed([suspect, changed(view, node=other)]))

    [left] = explained(zones, WEB).left_out

    assert left.reason == "node 198.18.0.3 is suspect"


def test_task_that_does_not_run_yet_is_named_as_such(zones: ZoneTable, view: View) -> None:
    staging = changed(view, id="new", name="new", discovery_name="", phase=TaskPhase.PREPARING)
    zones.publish(view.changed([staging]))

    own = explained(zones, "new.marathon.mesos.")

    assert not own.exists
    [source] = own.unnamed
    assert (source["task"], source["reason"]) == ("new", "the task is preparing")


def test_fixed_record_has_its_object_and_an_alias_its_canonical_name(zones: ZoneTable) -> None:
    own = explained(zones, "web.marathon.dclb.thisdcos.global.")

    assert own.canonical == "web.marathon.l4lb.thisdcos.directory."
    [each] = own.answering
    assert each.source == {"kind": "vip", "key": "web.marathon"}


def test_vip_without_a_service_says_so(zones: ZoneTable, view: View) -> None:
    zones.publish(view.changed([VipLease("db.marathon", IPv4Address("11.0.0.8"))]), held={})

    own = explained(zones, "db.marathon.l4lb.thisdcos.directory.")

    assert not own.exists
    assert "leased 11.0.0.8" in own.notes[0]


def test_before_a_view_nothing_is_known(unpublished: ZoneTable) -> None:
    assert not explained(unpublished, WEB).is_known


def test_foreign_name_is_none_of_ours(zones: ZoneTable) -> None:
    assert explain_own(zones.ledger, zones.zones, zones.aliases, "example.com.") is None


async def ask(
    zones: ZoneTable, words: dict[str, str], upstreams: tuple[str, ...] = ()
) -> tuple[int, dict[str, object]]:
    app = web.Application(middlewares=[errors_as_json])
    forwarder = Forwarder(upstreams)
    app.add_routes([resolve_route(zones, forwarder)])
    async with (
        serve(app, Listener("127.0.0.1", 0)) as [place],
        ClientSession() as session,
        session.get(f"http://{place}/v1/resolve", params=words) as response,
    ):
        body = json.loads(await response.text())
    await forwarder.close()
    return response.status, body


async def test_command_prints_what_the_api_says(zones: ZoneTable) -> None:
    status, body = await ask(zones, {"name": "_leader._tcp.mesos", "type": "srv"})

    assert status == 200
    assert data_of(body) == ["0 1 5050 leader.mesos."]
    assert "zone: mesos." in list(traced(body))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"name": WEB, "type": "AAAA"}, "no record of this type; it has A"),
        ({"name": "nosuch.mesos"}, "no such name"),
        ({"name": "example.com"}, "there is no upstream"),
    ],
)
async def test_why_there_is_nothing_is_said(
    zones: ZoneTable, words: dict[str, str], said: str
) -> None:
    _, body = await ask(zones, words)

    [line] = short(body)
    assert said in line
    assert not data_of(body)


@pytest.mark.parametrize(
    "words", [{}, {"name": "a..b"}, {"name": 64 * "x"}, {"name": "x", "type": "NOSUCH"}]
)
async def test_what_can_not_be_asked_is_refused(zones: ZoneTable, words: dict[str, str]) -> None:
    status, body = await ask(zones, words)

    assert status == 400
    assert str(body["error"]).startswith(("name:", "type:"))


async def test_each_upstream_is_asked_and_timed(zones: ZoneTable, view: View) -> None:
    answering = ZoneTable(node=IPv4Address("127.0.0.1"), servers=[])
    answering.publish(view)
    table = ZoneTable(node=IPv4Address("127.0.0.1"), servers=[])
    async with DnsServer(answering, Forwarder(), addresses=["127.0.0.1"], port=0) as server:
        [place] = server.listening
        dead = f"127.0.0.1:{_closed_port()}"
        _, body = await ask(table, {"name": "example.com"}, (str(place), dead))

    replies = body["replies"]
    assert isinstance(replies, list)
    ours, first, second = replies
    assert ours["server"] == "this node"
    assert (first["server"], first["rcode"]) == (str(place), "REFUSED")
    assert second["error"] is not None


def _closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
