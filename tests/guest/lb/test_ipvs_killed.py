"""The process that programs IPVS is killed after any step: the next one makes all right."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from tests.guest.lb.dying import AFTER, BEFORE
from tests.guest.lb.ipvs_lab import WEB, Lab, say, wait

from phalanx.core.netns import call_in
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.ipvs.kernel import dump
from phalanx.lb.service import Backend, Vip

ROOT = Path(__file__).parents[3]


@contextmanager
def load(lab: Lab) -> Iterator[list[str]]:
    """Make one connection after the other meanwhile; yield what each came to."""
    seen: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                seen.append(lab.ask("client", WEB, seconds=60)[0])
            except OSError as error:
                seen.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def listed(lab: Lab) -> dict[Vip, list[Backend]]:
    """Return what the kernel says that it has, twice what is there twice.

    Not by its text: that is read page by page, begins each page at a place counted over the
    services of all namespaces as if they were ours, and so leaves out some where others have any.
    """
    found = call_in(lab.path("node"), dump)
    return {vip: sorted(each.backend for each in kept.destinations) for vip, kept in found.items()}


@pytest.mark.timeout(600)  # a process starts, and a dozen tables are written
def test_killed_after_any_step_of_a_large_change(lab: Lab) -> None:
    command = (sys.executable, "-m", "tests.guest.lb.dying", str(lab.path("node")))
    partly = 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for step in count(1):
            lab.put(BEFORE)
            opened = [lab.connect("client", WEB) for _ in range(4)]
            names = [say(each)[0] for each in opened]
            with load(lab) as seen:
                writer.stdin.write(f"{step}\n")
                writer.stdin.flush()
                ended = writer.stdout.readline().strip()
                left = listed(lab)
                partly += left.keys() not in (BEFORE.keys(), AFTER.keys())

                lab.restart()
                is_right = wait(Reconciler(lab.services, lambda: AFTER).reconcile_once())
            held = listed(lab)

            assert is_right
            assert wait(lab.services.read()) == AFTER
            assert held == {vip: list(each.backends) for vip, each in AFTER.items()}
            assert [say(each)[0] for each in opened] == names
            assert set(seen) <= {"b1", "b2", "b3"}
            for each in opened:
                each.close()
            if ended == "done":
                break
            assert ended == "killed"
        writer.stdin.close()
    assert partly >= 2
