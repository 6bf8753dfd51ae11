"""What befalls a plane's names from outside: a full disk, an address and a file taken away."""

import signal
import subprocess
from pathlib import Path

import pytest
from tests.netns.dns.plane_node import OURS, SECONDS, THEIRS, Node

from phalanx.labs.wait import wait_until


def test_names_follow_the_cluster_while_the_disk_is_full(ns: str, tmp_path: Path) -> None:
    made = Node(ns, tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", made.state], check=True)
    try:
        made.publish(2)
        made.start()
        assert made.knows(2), made.log()
        with pytest.raises(OSError, match="No space"):
            (made.state / "filler").write_bytes(bytes(1 << 20))
        for count in (40, 41):  # more than fits into what is left of a page
            made.publish(count)
            assert made.knows(count), made.log()
        assert wait_until(lambda: "last_view_not_saved" in made.log(), seconds=SECONDS)

        made.end(signal.SIGKILL)
        made.start()  # a disk that is full keeps nobody from starting

        assert made.knows(41), made.log()
    finally:
        made.close()
        subprocess.run(["umount", made.state], check=True)


def test_an_address_that_is_taken_away_comes_back(node: Node) -> None:
    for _ in range(3):
        node.ip("address", "delete", "198.51.100.1/32", "dev", "lo")

        assert node.knows(3), node.log()

    assert "listener_not_restarted" not in node.log()


def test_another_programs_resolv_conf_is_followed_and_given_back(node: Node) -> None:
    assert wait_until(lambda: node.servers() == OURS, seconds=SECONDS), node.log()
    theirs = THEIRS.replace("192.0.2.7", "192.0.2.8")
    node.write(theirs)

    assert wait_until(lambda: node.servers() == OURS, seconds=SECONDS), node.log()
    assert "# upstream 192.0.2.8:53" in node.resolv_conf.read_text().splitlines()

    node.end(signal.SIGTERM)
    assert node.resolv_conf.read_text() == theirs


def test_a_killed_plane_leaves_resolv_conf_to_the_next(node: Node) -> None:
    assert wait_until(lambda: node.servers() == OURS, seconds=SECONDS), node.log()
    node.end(signal.SIGKILL)
    assert node.servers() == OURS

    node.start()
    assert node.knows(3), node.log()
    node.end(signal.SIGTERM)

    assert node.resolv_conf.read_text() == THEIRS


def test_a_whole_zone_goes_to_whom_it_may_go(node: Node) -> None:
    whole = node.dig("mesos", "AXFR", "+noall", "+answer", "+onesoa").stdout.split("\n")
    others = node.dig("mesos", "AXFR", "-b", "127.0.0.1")

    records = {tuple(line.split()[::4]) for line in whole if line}
    assert {("web.marathon.mesos.", f"9.0.0.{n}") for n in (1, 2, 3)} <= records
    assert [line.split()[3] for line in whole if line].count("SOA") == 1
    assert "Transfer failed" in others.stdout
    assert "web.marathon" not in others.stdout


def test_dig_and_the_resolver_know_each_other_by_cookies(node: Node) -> None:
    first = node.dig("web.marathon.mesos").stdout
    [cookie] = [line.split()[2] for line in first.splitlines() if line.startswith("; COOKIE:")]

    again = node.dig("web.marathon.mesos", f"+cookie={cookie}").stdout

    assert f"; COOKIE: {cookie} (good)" in again
