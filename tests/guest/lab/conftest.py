"""A whole cluster in the guest, real daemons on IPVS; made once, for that takes a minute or two."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from uuid import uuid4

import pytest
from tests.guest.lab.cluster import SECONDS, Guest

from phalanx.core.error import ConflictError
from phalanx.labs.daemons import Daemons
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until
from phalanx.labs.lab import Lab
from phalanx.labs.topology import spread

# Under emulation a daemon's start is a silence of many seconds.
MORE = {
    "plane": ("--lb=ipvs",),
    "master": ("--agent-ping-timeout=60secs", "--agent-suspect-timeout=30secs"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test of the cluster the time that it takes to make it."""
    for item in items:
        if "guest" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(4 * SECONDS))


def removed(lab: Lab) -> None:
    """Take it down; what is killed may take long to be gone."""

    def look() -> str | None:
        with suppress(ConflictError):
            lab.down()
            return "down"
        return None

    until(look, seconds=SECONDS, what="the lab is down")


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """Yield the cluster with its apps running, and every backend known on every node."""
    lab = Lab.up(
        spread(masters=1, agents=2, clients=0),
        name=f"t{uuid4().hex[:7]}",
        outfit=partial(Daemons, more=MORE),
        seconds=SECONDS,
    )
    try:
        made = Guest(Cluster(lab))
        made.deploy()
        yield made
    finally:
        removed(lab)
