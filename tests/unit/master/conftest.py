"""A leader, or a master over HTTP, for every test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.master.http_lab import Client, Master
from tests.unit.master.lab import BreakableStore, FakeClock, Lab

from phalanx.core.store.memory import MemoryStore


@pytest.fixture
async def lab() -> Lab:
    return await Lab.begin(BreakableStore(), FakeClock())


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with Master(tmp_path, MemoryStore()) as client:
        yield client
