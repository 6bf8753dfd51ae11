"""Real daemons with ``--lb ipvs``: what a VIP does for nodes and containers of a cluster."""

import subprocess
from collections import Counter
from contextlib import ExitStack

import pytest
from tests.guest.lab.cluster import HTTP, NODES, UDP, Guest, app, said

PLACES = (*NODES, "a1 task", "a2 task")


@pytest.mark.parametrize("where", PLACES)
def test_name_leads_to_instances_of_both_agents(guest: Guest, where: str) -> None:
    address = guest.address(where, "web")

    answers = guest.asked(where, address, times=8)

    assert answers.keys() == guest.names, answers


@pytest.mark.parametrize("where", PLACES)
def test_ipv6_name_leads_to_instances_of_both_agents(guest: Guest, where: str) -> None:
    address = guest.address(where, "web", "AAAA")

    answers = guest.asked(where, address, times=8)

    assert answers.keys() == guest.names, answers


@pytest.mark.parametrize("where", ["m1", "a1", "a1 task"])
def test_round_robin_by_label_takes_turns(guest: Guest, where: str) -> None:
    answers = guest.asked(where, guest.address(where, "fair"), times=6)

    assert sorted(answers.values()) == [3, 3], answers


@pytest.mark.parametrize("where", ["m1", "a1", "a2 task"])
def test_datagrams_reach_both_agents(guest: Guest, where: str) -> None:
    address = guest.address(where, "udp")

    answers = {guest.datagram(where, address, UDP) for _ in range(8)}

    assert answers == guest.names


def test_kernel_holds_each_vip_by_the_scheduler_of_its_label(guest: Guest) -> None:
    words = [line.split() for line in guest.ipvs("a1").splitlines()]
    found = sorted((line[0], line[2]) for line in words if line[0] in ("TCP", "UDP"))

    assert found == sorted(2 * [("TCP", "wlc"), ("TCP", "rr"), ("UDP", "wlc")])


def test_unhealthy_instance_is_drained_and_keeps_its_connections(guest: Guest) -> None:
    address = guest.address("a1", "web")
    sick, well = guest.instances
    with guest.connection_to("a1", address, sick.task_id) as opened:
        guest.ask("m1", sick.address, HTTP, "/sick")
        for node in NODES:
            guest.until_weights(node, [0, 1])

        answers = guest.asked("a1", address, times=8)

        assert answers == {well.task_id: 8}
        assert said(opened) == sick.task_id
    guest.ask("m1", sick.address, HTTP, "/well")
    for node in NODES:
        guest.until_weights(node, [1, 1])


def test_weight_by_label_is_a_share_of_open_connections(guest: Guest) -> None:
    address = guest.address("m1", "web")
    guest.post(guest.cluster.marathon, "/v2/apps", app("heavy", 1, 3))
    guest.until_weights("m1", [1, 1, 3])

    with ExitStack() as stack:
        held = [stack.enter_context(guest.connection("m1", address, HTTP)) for _ in range(10)]
        answers = Counter(map(said, held))

    guest.delete("/v2/apps/heavy")
    guest.until_weights("m1", [1, 1])
    assert sorted(answers.values()) == [2, 2, 6], answers


def test_cleared_table_is_put_in_place_again(guest: Guest) -> None:
    address = guest.address("a1", "web")
    subprocess.run(["nsenter", f"--net={guest.netns('a1')}", "ipvsadm", "--clear"], check=True)

    guest.until(lambda: guest.asked("a1", address, times=4).total() == 4, what="a1 balances again")

    assert guest.asked("a1 task", address, times=8).keys() == guest.names


def test_weight_that_somebody_else_sets_lasts_no_longer_than_to_the_resync(guest: Guest) -> None:
    vip = f"{guest.address('a1', 'web')}:{HTTP}"
    backend = f"{guest.instances[0].address}:{HTTP}"
    edit = ("ipvsadm", "-e", "-t", vip, "-r", backend, "-m", "-w", "9")
    subprocess.run(["nsenter", f"--net={guest.netns('a1')}", *edit], check=True)

    guest.until_weights("a1", [1, 1])


def test_plane_that_is_killed_and_started_again_interrupts_nobody(guest: Guest) -> None:
    address = guest.address("a1", "web")
    here, there = guest.instances
    with (
        guest.connection_to("a1", address, here.task_id) as near,
        guest.connection_to("a1 task", address, there.task_id) as far,
    ):
        guest.lab.kill("a1", "plane")
        asked_without = guest.asked("a1", address, times=4)
        guest.lab.start("a1", "plane")
        guest.until_weights("a1", [1, 1])
        asked_again = guest.asked("a1 task", address, times=8)

        # Who has fewer connections open is asked, which may be one of them only.
        assert asked_without.keys() | asked_again.keys() <= guest.names
        assert (asked_without.total(), asked_again.total()) == (4, 8)
        assert (said(near), said(far)) == (here.task_id, there.task_id)
