"""Labs with real daemons. Everything here needs root and is marked e2e by where it lies."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.error import NotFoundError
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.lab import Lab

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by directory; skip with the reason when not root, or fail in CI."""
    root = os.geteuid() == 0
    here = [item for item in items if HERE in item.path.parents]
    if here and not root and os.environ.get("CI"):
        raise pytest.UsageError("CI must run the end-to-end tests as root, not skip them")
    for item in here:
        item.add_marker(pytest.mark.e2e)
        if not root:
            item.add_marker(pytest.mark.skip(reason="needs root to make a lab"))


def lab_name() -> str:
    """Return a name that no other lab has."""
    return f"t{uuid4().hex[:7]}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a fresh lab of one master and two agents, shared by the tests of a module."""
    lab = Lab.up(name=lab_name())
    try:
        yield Cluster(lab)
    finally:
        lab.down()


@pytest.fixture
def spare_name() -> Iterator[str]:
    """Yield the name of a lab that is not there, and remove what a test leaves of it."""
    name = lab_name()
    yield name
    try:
        Lab.remove(name)
    except NotFoundError:
        return
