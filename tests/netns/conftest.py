"""Real namespaces. Everything here needs root and is marked netns by where it lies."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.net.hostport.orphan import remove_kept

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by directory, so that no test can forget; skip with the reason, or fail in CI."""
    root = os.geteuid() == 0
    here = [item for item in items if HERE in item.path.parents]
    if here and not root and os.environ.get("CI"):
        raise pytest.UsageError("CI must run the netns tests as root, not skip them")
    for item in here:
        item.add_marker(pytest.mark.netns)
        if not root:
            item.add_marker(pytest.mark.skip(reason="needs root to make namespaces"))


def ip(*arguments: str) -> str:
    """Run iproute2's ip; return what it printed."""
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def ns() -> Iterator[str]:
    """Yield the name of a fresh namespace with lo up; whatever is made in it goes with it."""
    name = f"phxtest-{uuid4().hex[:8]}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        remove_kept(Path("/run/netns", name))
        ip("netns", "delete", name)
