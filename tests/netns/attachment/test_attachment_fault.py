"""A kernel that refuses one request of an ADD, whichever it is, is left as it was."""

import errno
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.netns.attachment.house import Lab, ip

from phalanx.core.error import PhalanxError
from phalanx.net.attachment.ports import PortMapping
from phalanx.net.attachment.request import Command
from phalanx.net.attachment.wish import Limits, Wishes
from phalanx.net.netlink.wire import Conversation, Message

EVERYTHING: dict[str, Any] = {
    "ports": (PortMapping(18080, 80), PortMapping(18053, 53, "udp")),
    "wishes": Wishes(limits=Limits((125_000, 12_500), (125_000, 12_500))),
}
MOST_REQUESTS = 60  # more than one ADD of everything has


class Faults:
    """Refuses one netlink request, counted from the first."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._send = Conversation._send
        self.left = -1
        patch.setattr(Conversation, "_send", self._counted())

    def _counted(self) -> object:
        def send(conversation: Conversation, messages: list[Message]) -> None:
            self.left -= 1
            if self.left == -1:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            self._send(conversation, messages)

        return send


@pytest.fixture
def lab(ns: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(ns, tmp_path, stack)


def state(lab: Lab, container: str) -> tuple[object, ...]:
    """Return what an ADD changes."""

    def elements() -> str:
        listed = subprocess.run(
            ["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True
        ).stdout
        found = [
            item[kind]["elem"]
            for item in json.loads(listed)["nftables"]
            for kind in ("set", "map")
            if item.get(kind, {}).get("elem")
        ]
        return str(found)

    inside = {link["ifname"] for link in json.loads(ip("-n", container, "-j", "link"))}
    return lab.names(), inside, lab.leases.leases("both"), lab.links.run(elements)


def test_no_refused_request_leaves_anything(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first, container = lab.container(), lab.container()
    lab.add(first, ports=(PortMapping(18081, 80),))  # bridge and tables are there from here on
    before = state(lab, container)
    faults = Faults(monkeypatch)

    for number in range(MOST_REQUESTS):
        faults.left = number
        try:
            lab.add(container, **EVERYTHING)
        except PhalanxError:
            faults.left = -1
            assert state(lab, container) == before, f"request {number}"
            continue
        if faults.left >= 0:
            break  # it had fewer requests than that
        lab.run(Command.DEL, container)  # what was refused did not matter
        assert state(lab, container) == before, f"request {number}"
    else:
        pytest.fail(f"an ADD of more than {MOST_REQUESTS} requests")

    faults.left = -1
    lab.run(Command.DEL, container)
    assert state(lab, container) == before
    assert number > 15


def test_delete_that_is_refused_half_way_is_finished_by_the_next(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = lab.container()
    faults = Faults(monkeypatch)
    refused = 0
    for number in range(MOST_REQUESTS):
        faults.left = -1
        lab.add(container, **EVERYTHING)
        faults.left = number
        try:
            lab.run(Command.DEL, container)
        except PhalanxError:
            refused += 1
            faults.left = -1
            lab.run(Command.DEL, container)
        is_over = faults.left >= 0
        faults.left = -1
        assert lab.leases.leases("both") == {}, f"request {number}"
        assert lab.names() == {"lo", "phx-1027"}, f"request {number}"
        if is_over:
            break

    assert refused > 2
