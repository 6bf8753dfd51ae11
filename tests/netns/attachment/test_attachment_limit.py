"""What limits a container and outlives it: its namespace went before anybody was told."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.netns.attachment.house import Lab, ip

from phalanx.labs.wait import wait_until
from phalanx.net.attachment.request import Command
from phalanx.net.attachment.spec import ifb_name, veth_name
from phalanx.net.attachment.wish import Limits, Wishes
from phalanx.net.ipam.owner import Owner

LIMITED = Wishes(limits=Limits((125_000, 12_500), (250_000, 25_000)))


@pytest.fixture
def lab(ns: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(ns, tmp_path, stack)


@pytest.fixture
def gone(lab: Lab) -> str:
    """Return a container whose namespace is gone, and its veth with it."""
    container = lab.container()
    lab.add(container, wishes=LIMITED)
    veth = veth_name(Owner(container, "eth0"))
    ip("netns", "delete", container)
    assert wait_until(lambda: veth not in lab.names(), seconds=60)
    assert ifb_name(veth) in lab.names()
    return container


def test_gc_removes_it_and_spares_the_valid(lab: Lab, gone: str) -> None:
    container = lab.container()
    lab.add(container, wishes=LIMITED)
    veth = veth_name(Owner(container, "eth0"))

    lab.run(Command.GC, gone, valid=frozenset({Owner(container, "eth0")}))

    assert lab.names() == {"lo", "phx-1027", veth, ifb_name(veth)}


def test_plane_that_starts_removes_it(lab: Lab, gone: str) -> None:
    lab.links.run(lab.attachments.sweep)

    assert lab.names() == {"lo", "phx-1027"}


def test_next_container_of_the_name_is_limited(lab: Lab, gone: str) -> None:
    ip("netns", "add", gone)

    lab.add(gone, wishes=LIMITED)

    veth = veth_name(Owner(gone, "eth0"))
    assert lab.names() == {"lo", "phx-1027", veth, ifb_name(veth)}
    lab.run(Command.DEL, gone)
    assert lab.names() == {"lo", "phx-1027"}
