"""A plane, or whom it follows, that stands still for a while and goes on."""

import signal

import pytest
from tests.netns.dns.plane_node import SECONDS, Node

from phalanx.labs.wait import wait_until

HISTORY = 1024  # changes that a source keeps for those who come back


@pytest.mark.parametrize("changes", [1, HISTORY + 100], ids=["one change", "more than are kept"])
def test_a_plane_that_stood_still_knows_what_it_missed(node: Node, changes: int) -> None:
    node.tell(signal.SIGSTOP)
    for number in range(changes):
        node.publish(4 + number % 2)
    node.publish(7)
    assert node.addresses("web.marathon.mesos") == 0  # it answers nobody

    node.tell(signal.SIGCONT)

    assert node.knows(7), node.log()


def test_names_stay_while_the_source_stands_still_and_follow_it_again(node: Node) -> None:
    lost = node.log().count("feed_lost")
    node.tell_feed(signal.SIGSTOP)
    assert wait_until(lambda: node.log().count("feed_lost") > lost, seconds=SECONDS), node.log()
    assert node.knows(3), node.log()

    node.tell_feed(signal.SIGCONT)
    node.publish(5)

    assert node.knows(5), node.log()
