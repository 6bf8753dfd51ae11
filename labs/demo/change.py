"""The main job under change: scaling, a killed container, a killed agent, a dead node."""

import threading
import time
from dataclasses import dataclass, field

from phalanx.labs.demo.cluster import Cluster, Instance, expect
from phalanx.labs.demo.proof import Report, Timed, until
from phalanx.labs.demo.steady import CONTAINERIP, L4LB

WATCHER = "m1"  # the node that asks while others die
WAIT_SECONDS = 60.0


def scale(cluster: Cluster, report: Report) -> None:
    """Scale web to 5 and see the names and the VIP follow."""
    began = time.monotonic()
    cluster.marathon("PUT", "/v2/apps/web", {"instances": 5})

    def names() -> Timed:
        seen = _await_names(cluster, 5, seconds=WAIT_SECONDS)
        return Timed(seen, time.monotonic() - began)

    def spread() -> Timed:
        seen = until(
            lambda: "all 5 answer" if len(_answering(cluster)) == 5 else None,
            seconds=WAIT_SECONDS,
            what="5 instances behind the VIP",
        )
        return Timed(seen, time.monotonic() - began)

    report.prove("change", "scale to 5: names follow", names)
    report.prove("change", "scale to 5: the VIP follows, once they are healthy", spread)
    report.prove("change", "scale to 5: all are healthy", lambda: cluster.await_app("web", 5))


def kill_container(cluster: Cluster, report: Report) -> None:
    """Kill one container from outside and see it replaced."""
    victim = cluster.instances("web")[0]
    with Visitor(cluster) as visitor:
        visitor.mark()
        killed = cluster.runc(victim, "kill", victim.container_id, "KILL")
        report.prove(
            "change",
            "kill -9 a container: names follow",
            lambda: visitor.without({victim.address}, seconds=WAIT_SECONDS),
        )
        report.prove("change", "kill -9 a container: the VIP follows", visitor.drained)
    report.measure(
        "change",
        "kill -9 a container: replaced, behind the VIP",
        lambda: until(
            lambda: _replacement(cluster, victim), seconds=WAIT_SECONDS, what="5 healthy without it"
        ),
    )
    report.prove(
        "change", "kill -9 a container: it was really killed", lambda: _status_of(killed.returncode)
    )


def kill_agent_process(cluster: Cluster, report: Report) -> None:
    """Kill one agent process, see its containers live on, start it again."""
    before = {instance for instance in cluster.instances("web") if instance.node == "a1"}

    def kill() -> str:
        cluster.lab.kill("a1", "agent")
        for instance in before:
            seen = cluster.curl(WATCHER, f"http://{instance.address}/")
            expect(seen == [instance.task_id], f"{instance.address}: {seen}")
        return f"{len(before)} containers on a1 answer"

    def back() -> str:
        cluster.lab.start("a1", "agent")
        return until(
            lambda: "same tasks, none restarted" if _is_back(cluster, before) else None,
            seconds=WAIT_SECONDS,
            what="a1 back with its tasks",
        )

    report.prove("change", "agent killed: its containers live on", kill)
    report.measure("change", "agent killed and started again: it has all its tasks", back)


def kill_node(cluster: Cluster, report: Report) -> None:
    """Cut the power of a2 and see the VIP drained, the names cleaned, the tasks replaced."""
    lost = {instance.address for instance in cluster.instances("web") if instance.node == "a2"}
    with Visitor(cluster) as visitor:
        visitor.mark()
        cluster.lab.kill("a2")
        report.prove(
            "change",
            "a2 loses power: names follow",
            lambda: visitor.without(lost, seconds=WAIT_SECONDS),
        )
        report.prove(
            "change",
            "a2 loses power: the VIP follows",
            lambda: visitor.drained(quiet=2.0, seconds=WAIT_SECONDS),
        )
        report.prove(
            "change", "a2 loses power: all 5 instances run again, on a1", visitor.replaced_on_a1
        )


@dataclass
class Visitor:
    """Asks the VIP again and again, and remembers when a request last failed."""

    cluster: Cluster
    _stop: threading.Event = field(default_factory=threading.Event)
    asked: int = 0  # requests made so far
    _failed: int = 0
    _marked_at: float = 0.0
    _failed_at: float | None = None
    _worked_at: float = 0.0  # when the last request that worked was made

    def __enter__(self) -> "Visitor":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def mark(self) -> None:
        """Begin the clock: something is about to break."""
        self._marked_at = time.monotonic()

    def settle(self, *, quiet: float = 1.0, seconds: float = WAIT_SECONDS) -> None:
        """Wait until requests have all worked for *quiet* seconds since the mark."""

        def is_quiet() -> str | None:
            last = max(self._failed_at or 0.0, self._marked_at)
            return "" if self._worked_at - last > quiet else None

        until(is_quiet, seconds=seconds, what="no request fails any more")

    def without(self, addresses: set[str], *, seconds: float) -> Timed:
        """Wait until none of *addresses* is in web's names; say when that was, after the mark."""
        until(
            lambda: "" if not addresses & set(self.cluster.dig(WATCHER, CONTAINERIP)) else None,
            seconds=seconds,
            what=f"names without {', '.join(sorted(addresses))}",
        )
        return Timed(f"{', '.join(sorted(addresses))} gone", time.monotonic() - self._marked_at)

    def drained(self, *, quiet: float = 1.0, seconds: float = WAIT_SECONDS) -> Timed:
        """Wait until requests work again; say when the last one failed, after the mark."""
        self.settle(quiet=quiet, seconds=seconds)
        last = self._failed_at or self._marked_at
        return Timed(self.summary(), max(0.0, last - self._marked_at))

    def replaced_on_a1(self) -> Timed:
        """Wait until five instances run on a1 and answer; say when, after the mark."""

        def look() -> str | None:
            webs = self.cluster.instances("web")
            on_a1 = [web for web in webs if web.node == "a1"]
            return "" if len(on_a1) == 5 and len(_answering(self.cluster)) == 5 else None

        until(look, seconds=WAIT_SECONDS, what="5 instances on a1")
        return Timed("5 on a1 answer", time.monotonic() - self._marked_at)

    def summary(self) -> str:
        """Say how many requests failed, and for how long after the mark."""
        if self._failed_at is None:
            return f"none of {self.asked} requests failed"
        after = max(0.0, self._failed_at - self._marked_at)
        return f"{self._failed} of {self.asked} requests failed, the last {after:.2f} s after"

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            if self.cluster.answers(WATCHER, f"http://{L4LB}/"):
                self._worked_at = began
            else:
                self._failed += 1
                self._failed_at = began
            self.asked += 1


def _await_names(cluster: Cluster, count: int, *, seconds: float) -> str:
    def look() -> str | None:
        seen = cluster.dig(WATCHER, CONTAINERIP)
        return ", ".join(seen) if len(seen) == count else None

    return until(look, seconds=seconds, what=f"{count} addresses at {CONTAINERIP}")


def _answering(cluster: Cluster) -> set[str]:
    """Return the instances that answered a burst of requests to the VIP."""
    return set(cluster.curl(WATCHER, f"http://{L4LB}/", times=40))


def _replacement(cluster: Cluster, victim: Instance) -> str | None:
    instances = cluster.instances("web")
    if len(instances) != 5 or victim in instances:
        return None
    return "all 5 answer" if len(_answering(cluster)) == 5 else None


def _status_of(status: int) -> str:
    expect(status == 0, f"runc kill: exit status {status}")
    return "runc kill: exit status 0"


def _is_back(cluster: Cluster, before: set[Instance]) -> bool:
    slaves = {s["hostname"]: s["active"] for s in cluster.master("GET", "/slaves")["slaves"]}
    if not slaves.get("a1"):
        return False
    now = {instance for instance in cluster.instances("web") if instance.node == "a1"}
    return now == before and before <= {
        instance for instance in now if instance.task_id in _answering(cluster)
    }
