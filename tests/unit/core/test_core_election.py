"""One leads at a time, everyone knows who, and a lost leader is followed by the next."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from phalanx.core.config import HostPort, MasterAddress, ZooKeeperAddress
from phalanx.core.detector import Listed, ZooKeeperDetector, leader_of
from phalanx.core.election import Standalone
from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.core.zookeeper.election import CANDIDATE, ZooKeeperElection
from phalanx.core.zookeeper.session import ZooKeeper
from phalanx.core.zookeeper.store import ZooKeeperStore

NOBODY = ZooKeeperAddress("127.0.0.1:1", "/x")


@pytest.fixture
def address(zookeeper: str) -> ZooKeeperAddress:
    return ZooKeeperAddress(zookeeper, f"/{uuid4()}")


async def until(watching: AsyncIterator[bytes | None], leader: bytes | None) -> None:
    async with asyncio.timeout(30):
        while await anext(watching) != leader:
            pass


async def test_alone_one_leads_at_once() -> None:
    assert await anext(Standalone().watch(b"me")) == b"me"
    assert Standalone().is_certain()


async def test_the_first_candidate_leads_and_the_next_follows(address: ZooKeeperAddress) -> None:
    async with asyncio.timeout(30), ZooKeeper(address) as second_session:
        second = ZooKeeperElection(second_session)
        async with ZooKeeper(address) as first_session:
            first = ZooKeeperElection(first_session)
            await until(first.watch(b"first"), b"first")
            leads_second = second.watch(b"second")
            await until(leads_second, b"first")
            assert first.is_certain()
            assert second.is_certain()
        await until(leads_second, b"second")


async def test_candidates_stand_in_the_layout_of_mesos(address: ZooKeeperAddress) -> None:
    async with ZooKeeper(address) as session:
        await until(ZooKeeperElection(session).watch(b"{}"), b"{}")

        children = await session.ask(lambda: session.client.get_children_async(address.path))

    assert children == [f"{CANDIDATE}0000000000"]


@pytest.mark.parametrize(
    "name",
    [
        "log_replicas",
        "json.info_",
        "json.info_!!!!!!!!!!",
        "json.info_000000000",
        "info_0000000000",
    ],
)
async def test_other_nodes_beside_the_candidates_are_none(
    address: ZooKeeperAddress, name: str
) -> None:
    async with asyncio.timeout(30), ZooKeeper(address) as session:
        assert await session.connected(30)
        await session.ensure(address.path)
        await session.ask(lambda: session.client.create_async(f"{address.path}/{name}", b"?"))

        await until(ZooKeeperElection(session).watch(b"me"), b"me")


async def test_with_credentials_everybody_reads_and_nobody_else_writes(zookeeper: str) -> None:
    path = f"/{uuid4()}"
    mine = ZooKeeperAddress(zookeeper, path, "me:secret")
    theirs = ZooKeeperAddress(zookeeper, path, "me:guessed")
    async with asyncio.timeout(30), ZooKeeper(mine) as session, ZooKeeper(theirs) as other:
        election = ZooKeeperElection(session)
        await until(election.watch(b"me"), b"me")
        node = election.node
        assert node is not None
        assert await other.connected(30)

        stranger = ZooKeeperElection(other)
        assert await anext(stranger.watch(b"stranger")) is None
        assert not stranger.is_certain()
        assert (await other.ask(lambda: other.client.get_async(node)))[0] == b"me"
        with pytest.raises(UnavailableError, match="the password is another"):
            await other.ask(lambda: other.client.delete_async(node))
        with pytest.raises(UnavailableError, match="the password is another"):
            await ZooKeeperStore(other, f"{path}/registry").put("a", b"b")


async def test_who_loses_his_node_hears_that_nobody_leads_before_he_leads_again(
    address: ZooKeeperAddress,
) -> None:
    async with asyncio.timeout(30), ZooKeeper(address) as session, ZooKeeper(address) as other:
        election = ZooKeeperElection(session)
        watching = election.watch(b"me")
        await until(watching, b"me")
        lost = election.node
        assert lost is not None

        await other.connected(10)
        await other.ask(lambda: other.client.delete_async(lost))

        assert await anext(watching) is None
        assert await anext(watching) == b"me"
        assert election.node not in (None, lost)


async def test_a_leader_is_certain_for_less_than_its_session_lasts(
    address: ZooKeeperAddress,
) -> None:
    now = 1000.0
    async with ZooKeeper(address, session_seconds=4.0) as session:
        election = ZooKeeperElection(session, now=lambda: now)
        assert not election.is_certain()
        await until(election.watch(b"me"), b"me")

        assert election.is_certain()
        now += 3.5
        assert election.is_certain()
        now += 0.2
        assert not election.is_certain()


async def test_a_session_lasts_no_longer_than_the_servers_grant(
    address: ZooKeeperAddress,
) -> None:
    async with ZooKeeper(address, session_seconds=600.0) as session:
        assert await session.connected(30)
        await session.ensure(address.path)

        assert session.granted_seconds == pytest.approx(60.0, rel=0.01)


async def test_nobody_leads_while_no_server_answers() -> None:
    async with asyncio.timeout(30), ZooKeeper(NOBODY, store_seconds=0.2) as session:
        election = ZooKeeperElection(session)

        assert await anext(election.watch(b"me")) is None
        assert not election.is_certain()
        with pytest.raises(UnavailableError, match="no server answers"):
            await session.ask(lambda: session.client.get_async("/x"))


async def test_a_store_says_that_no_server_answers() -> None:
    async with ZooKeeper(NOBODY, store_seconds=0.2) as session:
        store = ZooKeeperStore(session, "/x/registry")

        with pytest.raises(UnavailableError, match="zookeeper: no"):
            await store.put("a", b"1")
        with pytest.raises(UnavailableError, match="zookeeper: no"):
            await store.list("a")


async def test_a_detector_finds_the_leader_and_remembers_it(address: ZooKeeperAddress) -> None:
    info = {"address": {"ip": "10.0.0.1", "port": 5050}, "ip": 16777226, "port": 5050, "id": "a"}
    async with asyncio.timeout(30), ZooKeeperDetector(address) as detector:
        assert await detector.masters() == ()
        async with ZooKeeper(address) as session:
            me = json.dumps(info).encode()
            await until(ZooKeeperElection(session).watch(me), me)

            async with asyncio.timeout(10):
                while not (found := await detector.masters()):  # noqa: ASYNC110 - no event tells it
                    await asyncio.sleep(0.05)

    assert found == (HostPort("10.0.0.1", 5050),)
    assert await detector.masters() == found  # no server is asked any more


async def test_a_list_of_masters_is_taken_as_it_is() -> None:
    address = MasterAddress.parse("a:1,b:2")

    assert await Listed(address.hosts).masters() == (HostPort("a", 1), HostPort("b", 2))


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"ip":16777226,"port":5050}', HostPort("10.0.0.1", 5050)),
        (b'{"ip":1,"port":1,"address":{"ip":"10.9.8.7","port":2}}', HostPort("10.9.8.7", 2)),
    ],
)
def test_the_leaders_address_is_read_from_its_node(payload: bytes, found: HostPort) -> None:
    assert leader_of(payload) == found


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'{"ip":-1,"port":1}', b'{"ip":"x"}'])
def test_garbage_in_a_node_is_no_leader(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="no MasterInfo"):
        leader_of(payload)
