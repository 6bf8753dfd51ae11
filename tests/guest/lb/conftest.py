"""One lab of namespaces for all packet tests: to make it takes seconds under emulation."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.guest.lb.ipvs_lab import Lab, made_lab, run, wait


@pytest.fixture(scope="session")
def built() -> Iterator[Lab]:
    node = f"phxtest-{uuid4().hex[:8]}"
    run("ip", "netns", "add", node)
    try:
        run("ip", "-n", node, "link", "set", "lo", "up")
        with made_lab(node) as lab:
            yield lab
    finally:
        run("ip", "netns", "delete", node)


@pytest.fixture
def lab(built: Lab) -> Iterator[Lab]:
    """Yield the lab; nothing of ours is left in it for the next test."""
    yield built
    wait(built.services.clear())
    built.restart()
