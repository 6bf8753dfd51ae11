"""A leader for every test that asks for one."""

import pytest
from tests.unit.master.lab import BreakableStore, FakeClock, Lab


@pytest.fixture
async def lab() -> Lab:
    return await Lab.begin(BreakableStore(), FakeClock())
