"""One leads at a time, everyone knows who, and a lost leader is followed by the next."""

import asyncio
from uuid import uuid4

import pytest

from phalanx.core.election import Standalone
from phalanx.core.error import ConfigError, UnavailableError
from phalanx.core.zookeeper import CANDIDATE, ZooKeeperElection, ZooKeeperStore


async def test_alone_one_leads_at_once() -> None:
    assert await anext(Standalone().watch(b"me")) == b"me"


async def test_the_first_candidate_leads_and_the_next_follows(zookeeper: str) -> None:
    path = f"/{uuid4()}"
    async with asyncio.timeout(30), ZooKeeperElection(zookeeper, path) as second:
        async with ZooKeeperElection(zookeeper, path) as first:
            leads_first = first.watch(b"first")
            assert await anext(leads_first) == b"first"
            leads_second = second.watch(b"second")
            assert await anext(leads_second) == b"first"
        assert await anext(leads_second) == b"second"


async def test_candidates_stand_in_the_layout_of_mesos(zookeeper: str) -> None:
    path = f"/{uuid4()}"
    async with ZooKeeperElection(zookeeper, path) as election:
        await anext(election.watch(b"{}"))

        children = await asyncio.to_thread(election._client.get_children, path)

    assert children == [f"{CANDIDATE}0000000000"]


async def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="'phalanx': is not a path"):
        ZooKeeperStore("127.0.0.1:1", "phalanx")


async def test_no_server_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phalanx.core.zookeeper.CONNECT_SECONDS", 0.2)

    with pytest.raises(UnavailableError, match="no answer"):
        async with ZooKeeperStore("127.0.0.1:1", "/x"):
            pass
