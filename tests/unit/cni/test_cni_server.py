"""The plane's CNI socket, with links in memory."""

import asyncio
import json
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from phalanx.core.error import ConfigError
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.memory import MemoryLinks
from phalanx.net.attachment.ports import MemoryHostPorts
from phalanx.net.attachment.spec import AttachmentSpec
from phalanx.net.ipam.store import AddressStore
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.cni.server import CniServer

NODE = IPv4Address("198.18.0.2")
VIEW = View().changed(
    [
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        Network("blue", IPv4Network("10.1.0.0/16"), 24, 1025, 1450),
        SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
    ]
)


class Plane:
    """What a plane gives its CNI server."""

    def __init__(self, directory: Path, thread: ThreadPoolExecutor) -> None:
        self.path = directory / "run" / "cni.sock"
        self.links = MemoryLinks(*(f"/ns/c{number}" for number in range(60)))
        self.view: View | None = VIEW
        self.walled: View | None = VIEW
        self.in_sync = True
        self.leaving: ThreadPoolExecutor | None = None  # None: where the others are, too
        self.changes = 0
        self.changed = asyncio.Event()
        self.leases = AddressStore(directory / "ipam")
        self._thread = thread

    def server(self, links: MemoryLinks | None = None) -> CniServer:
        return CniServer(
            self.path,
            node=NODE,
            view=lambda: self.view,
            walled=lambda: self.walled,
            in_sync=lambda: self.in_sync,
            attachments=Attachments(links or self.links, self.leases, MemoryHostPorts()),
            thread=self._thread,
            leaving=self.leaving,
            changed=self._count,
        )

    def _count(self) -> None:
        self.changes += 1
        self.changed.set()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with ThreadPoolExecutor(1) as thread:
        yield Plane(tmp_path, thread)


@pytest.fixture
async def server(plane: Plane) -> AsyncIterator[CniServer]:
    async with plane.server() as server:
        yield server


def line(command: str, container: str = "c1", network: str = "dcos", **config: object) -> bytes:
    request = {
        "command": command,
        "container_id": container,
        "netns": f"/ns/{container}",
        "ifname": "eth0",
        "args": "",
        "path": "/opt",
        "config": {"cniVersion": "1.1.0", "name": network, **config},
    }
    return json.dumps(request).encode() + b"\n"


async def ask(path: Path, request: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    parsed: dict[str, Any] = json.loads(answer)
    return parsed


@pytest.mark.usefixtures("server")
async def test_add_and_delete_over_the_socket(plane: Plane) -> None:
    added = await ask(plane.path, line("ADD"))
    deleted = await ask(plane.path, line("DEL"))

    assert added["result"]["ips"] == [
        {"address": "9.0.1.2/24", "gateway": "9.0.1.1", "interface": 2}
    ]
    assert deleted == {"result": {}}
    assert plane.links.attached == {}
    assert plane.changes == 2


@pytest.mark.usefixtures("server")
async def test_parallel_adds_get_addresses_of_their_own(plane: Plane) -> None:
    answers = await asyncio.gather(*(ask(plane.path, line("ADD", f"c{n}")) for n in range(60)))

    addresses = {answer["result"]["ips"][0]["address"] for answer in answers}

    assert len(addresses) == 60
    assert len(plane.links.attached) == 60


class Meeting(MemoryLinks):
    """Links that go only when as many want to go as the barrier is for."""

    def __init__(self, parties: int, *namespaces: str) -> None:
        super().__init__(*namespaces)
        self.barrier = threading.Barrier(parties)

    def detach(self, veth: str) -> bool:
        self.barrier.wait(30)
        return super().detach(veth)


async def test_containers_leave_side_by_side(plane: Plane) -> None:
    links = Meeting(5, *(f"/ns/c{number}" for number in range(5)))
    with ThreadPoolExecutor(5) as plane.leaving:
        async with plane.server(links):
            for number in range(5):
                await ask(plane.path, line("ADD", f"c{number}"))
            answers = await asyncio.gather(
                *(ask(plane.path, line("DEL", f"c{number}")) for number in range(5))
            )

    assert answers == [{"result": {}}] * 5
    assert links.attached == {}
    assert plane.leases.leases("dcos") == {}


class Slow(MemoryLinks):
    """Links of which one is made when the event is set."""

    def __init__(self, *namespaces: str) -> None:
        super().__init__(*namespaces)
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def attach(self, spec: AttachmentSpec) -> None:
        self.begun.set()
        assert self.may_go_on.wait(30)
        super().attach(spec)


async def test_delete_waits_for_the_add_of_the_same_container(plane: Plane) -> None:
    links = Slow("/ns/c1")
    with ThreadPoolExecutor(2) as plane.leaving:
        async with plane.server(links):
            adding = asyncio.create_task(ask(plane.path, line("ADD")))
            await asyncio.to_thread(links.begun.wait, 30)
            deleting = asyncio.create_task(ask(plane.path, line("DEL")))
            other = await ask(plane.path, line("DEL", "c2"))
            links.may_go_on.set()
            added, deleted = await asyncio.gather(adding, deleting)

    assert other == deleted == {"result": {}}
    assert "result" in added
    assert links.attached == {}
    assert plane.leases.leases("dcos") == {}


@pytest.mark.usefixtures("server")
async def test_socket_is_for_root_alone(plane: Plane) -> None:
    assert stat.S_IMODE(plane.path.stat().st_mode) == 0o600
    assert [path.name for path in plane.path.parent.iterdir()] == ["cni.sock"]


def nothing(plane: Plane) -> None:
    plane.view = None


def stale(plane: Plane) -> None:
    plane.in_sync = False


def whole(plane: Plane) -> None:
    plane.in_sync = True


def unwalled(plane: Plane) -> None:
    plane.walled = None


def walled_otherwise(plane: Plane) -> None:
    plane.walled = View().changed([Network("dcos", IPv4Network("9.0.0.0/9"), 24, 1024, 1450)])


@pytest.mark.parametrize(
    ("situation", "command", "network", "code", "words"),
    [
        pytest.param(nothing, "ADD", "dcos", 11, "not in sync", id="no-view"),
        pytest.param(stale, "ADD", "green", 11, "not in sync", id="unknown-in-an-old-view"),
        pytest.param(stale, "ADD", "blue", 11, "not in sync", id="not-leased-in-an-old-view"),
        pytest.param(whole, "ADD", "green", 7, "there is none of this name", id="unknown"),
        pytest.param(whole, "ADD", "blue", 7, "no subnet is leased", id="not-leased"),
        pytest.param(unwalled, "ADD", "dcos", 11, "walls do not stand", id="no-walls"),
        pytest.param(walled_otherwise, "ADD", "dcos", 11, "walls do not stand", id="other-walls"),
        pytest.param(unwalled, "STATUS", "dcos", 50, "walls do not stand", id="status-no-walls"),
        pytest.param(nothing, "STATUS", "dcos", 50, "not in sync", id="status-without-view"),
        pytest.param(whole, "STATUS", "green", 50, "none of this name", id="status-unknown"),
    ],
)
async def test_network_that_is_not_here_is_refused(
    plane: Plane,
    server: CniServer,
    situation: Callable[[Plane], None],
    command: str,
    network: str,
    code: int,
    words: str,
) -> None:
    situation(plane)

    answer = json.loads(await server.answer(line(command, network=network)))

    assert answer["error"]["code"] == code
    assert words in answer["error"]["msg"]


async def test_old_view_still_serves_what_it_knows(plane: Plane, server: CniServer) -> None:
    plane.in_sync = False

    assert "result" in json.loads(await server.answer(line("ADD")))
    assert json.loads(await server.answer(line("STATUS"))) == {"result": {}}


async def test_containers_of_a_network_that_is_gone_can_leave(
    plane: Plane, server: CniServer
) -> None:
    await server.answer(line("ADD"))
    plane.view = View()

    assert json.loads(await server.answer(line("DEL"))) == {"result": {}}
    assert plane.leases.leases("dcos") == {}


async def test_check_and_gc_are_served(plane: Plane, server: CniServer) -> None:
    added = json.loads(await server.answer(line("ADD")))["result"]
    await server.answer(line("ADD", "c2"))
    valid = [{"containerID": "c1", "ifname": "eth0"}]

    listed: dict[str, object] = {"cni.dev/valid-attachments": valid}
    collected = json.loads(await server.answer(line("GC", "", "dcos", **listed)))
    checked = json.loads(await server.answer(line("CHECK", prevResult=added)))
    missing = json.loads(await server.answer(line("CHECK", "c2", prevResult=added)))

    assert (collected, checked) == ({"result": {}}, {"result": {}})
    assert missing["error"]["code"] == 3


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{\n", 6),
        (b"[]\n", 6),
        (b"\xff\n", 6),
        (line("ADD", "no such"), 4),
        (line("ADD", "gone"), 8),
        (line("ADD", runtimeConfig={"portMappings": [{"hostPort": 80}]}), 7),
        (line("ADD", cniVersion="3.0.0"), 1),
    ],
    ids=["json", "object", "utf-8", "container-id", "namespace", "port-mappings", "version"],
)
@pytest.mark.usefixtures("server")
async def test_bad_request_is_answered_with_its_code(plane: Plane, raw: bytes, code: int) -> None:
    answer = await ask(plane.path, raw)

    assert answer["error"]["code"] == code
    assert plane.leases.leases("dcos") == {}


class Broken(MemoryLinks):
    """Links with a bug."""

    def attach(self, spec: AttachmentSpec) -> None:
        raise ZeroDivisionError(spec.veth)


async def test_bug_in_one_command_is_answered_and_ends_nothing(plane: Plane) -> None:
    async with plane.server(Broken("/ns/c1")):
        failed = await ask(plane.path, line("ADD"))
        status = await ask(plane.path, line("STATUS"))

    assert failed["error"]["code"] == 999
    assert status == {"result": {}}
    assert plane.leases.leases("dcos") == {}


async def test_socket_of_a_dead_plane_is_taken_over(plane: Plane) -> None:
    plane.path.parent.mkdir(parents=True)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(plane.path))
    dead.close()

    async with plane.server():
        answer = await ask(plane.path, line("ADD"))

    assert "result" in answer
    assert not plane.path.exists()


async def test_socket_that_cannot_be_bound_is_named(plane: Plane) -> None:
    plane.path.parent.parent.joinpath("run").write_text("")

    with pytest.raises(ConfigError, match=r"cni\.sock"):
        await plane.server().__aenter__()


async def test_plane_that_was_replaced_leaves_the_new_socket_alone(plane: Plane) -> None:
    async with plane.server() as new:
        async with plane.server():
            pass
        async with plane.server() as newest:
            await new.__aexit__()

            assert "result" in await ask(plane.path, line("ADD"))
            await newest.__aexit__()

    assert not plane.path.exists()


@pytest.mark.usefixtures("server")
async def test_client_that_leaves_early_does_not_undo_its_command(plane: Plane) -> None:
    _, writer = await asyncio.open_unix_connection(str(plane.path))
    writer.write(line("ADD"))
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    async with asyncio.timeout(60):
        await plane.changed.wait()

    assert len(plane.links.attached) == len(plane.leases.leases("dcos")) == 1


async def test_client_that_says_nothing_does_not_hold_up_the_end(plane: Plane) -> None:
    async with plane.server():
        reader, writer = await asyncio.open_unix_connection(str(plane.path))
        await ask(plane.path, line("STATUS"))

    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
