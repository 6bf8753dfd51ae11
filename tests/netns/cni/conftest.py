"""A node for each test."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.netns.cni.host import Host

from phalanx.cni.install import install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the plugins are, which each node gets a copy of."""
    place = tmp_path_factory.mktemp("plugins")
    install(place)
    return place


@pytest.fixture
def host(tmp_path: Path, installed: Path) -> Iterator[Host]:
    with ExitStack() as stack:
        yield Host(stack, tmp_path, installed)
