"""What several tests of a plane's names stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns.dns.plane_node import Node


@pytest.fixture
def node(ns: str, tmp_path: Path) -> Iterator[Node]:
    """Yield a node whose plane knows of three tasks."""
    made = Node(ns, tmp_path)
    try:
        made.publish(3)
        made.start()
        assert made.knows(3), made.log()
        yield made
    finally:
        made.close()
