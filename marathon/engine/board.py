"""What the parts of the engine share: the ledger, and what need not outlive the process."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from phalanx.marathon.engine.bus import Bus
from phalanx.marathon.engine.tally import Tally
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Action, Deployment
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule import verdict
from phalanx.marathon.schedule.backoff import Backoff
from phalanx.marathon.schedule.constraint import Attributes
from phalanx.marathon.schedule.health import Health, agent_run_checks, is_healthy
from phalanx.marathon.schedule.readiness import Readiness
from phalanx.marathon.schedule.verdict import Verdict
from phalanx.mesos.v1.mesos import CheckStatusInfo

TERMINATIONS = 20  # of a pod that are told


@dataclass(frozen=True, slots=True)
class Termination:
    """How an instance of a pod ended; it as it was last."""

    instance: Instance
    at: float
    message: str


@dataclass(frozen=True, slots=True)
class Agenda:
    """What deployments do now, by app or pod, and what they will act on in a later step."""

    actions: Mapping[str, Action]
    awaited: Collection[str]


def agenda_of(deployments: Iterable[Deployment]) -> Agenda:
    """Return what *deployments* do now; of several on one app the oldest counts."""
    actions: dict[str, Action] = {}
    awaited: set[str] = set()
    for deployment in deployments:
        for action in deployment.actions:
            actions.setdefault(action.app_id, action)
        for step in deployment.steps[deployment.step + 1 :]:
            awaited.update(action.app_id for action in step)
    return Agenda(actions, awaited)


class Board:
    """The state of the engine; whoever changes it holds *lock*, then pokes.

    *health* is by task id and index of the check, *checks* and *readiness* by task id, *backoffs*
    and *tallies* are by the id of an app or pod, *kills_sent* says when a task was last asked to
    end. *rendered* has each app that was shown, and how; *terminations* the last ends of each
    pod's instances; *region* is the master's.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        rng: Random,
        identity: Callable[[], str],
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.rng = rng
        self.identity = identity
        self.bus = Bus(clock)
        self.lock = asyncio.Lock()
        self.health = _recalled(ledger)
        self.checks: dict[str, CheckStatusInfo] = {}
        self.backoffs: dict[str, Backoff] = {}
        self.tallies: dict[str, Tally] = {}
        self.kills_sent: dict[str, float] = {}
        self.readiness: dict[str, Readiness] = {}
        self.terminations: dict[str, deque[Termination]] = {}
        self.litter: dict[str, str] = {}  # roles of reservations whose instances are no more
        self.rendered: dict[str, tuple[App, Mapping[str, Any]]] = {}
        self.region: str | None = None
        self.done: dict[str, bool] = {}  # whether anything is left to do for an app or pod
        self.resync_at = 0.0
        self.batch = 0  # of offers: its number
        self._poked = asyncio.Event()

    def poke(self, spec_id: str | None = None) -> None:
        """Ask for a pass soon, over one more app or pod; cheap, safe to call in a burst."""
        if spec_id is not None:
            self.ledger.roll.touched.add(spec_id)
        self._poked.set()

    async def wait(self, until: float | None) -> None:
        """Return when poked, or at the time *until*."""
        seconds = None if until is None else max(0.0, until - self.clock())
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            pass
        self._poked.clear()

    def is_healthy(self, instance: Instance) -> bool:
        """Tell whether an instance runs and passes all checks of its app or pod."""
        spec = self.ledger.specs.get(instance.app_id)
        results = self.health.get(instance.task_id, {})
        return spec is not None and is_healthy(spec, instance, results)

    def is_ready(self, instance: Instance) -> bool:
        """Tell whether an instance may count as done in a deployment."""
        app = self.ledger.apps.get(instance.app_id)
        if app is None or not app.readiness_checks or instance.version < app.config_version:
            return True
        found = self.readiness.get(instance.task_id)
        return found is not None and found.ready

    def verdict_on(self, spec_id: str, agenda: Agenda, now: float) -> Verdict:
        """Return what is to happen to the instances of an app or pod."""
        spec = self.ledger.specs.get(spec_id)
        instances = self.ledger.instances_of(spec_id)
        if spec is None:
            return verdict.stopping(instances)
        instances = [i for i in instances if i.condition is not Condition.STOPPED]
        action = agenda.actions.get(spec_id)
        if action is None:
            if spec_id in agenda.awaited:
                return Verdict()
        elif action.kind.is_start:
            return Verdict(done=True)
        healthy = {i.id for i in instances if self.is_healthy(i)}
        if action is not None:
            healthy = {i.id for i in instances if i.id in healthy and self.is_ready(i)}
            if action.kind.is_restart:
                return verdict.restarting(spec, instances, healthy, now)
        return verdict.steady(spec, instances, healthy, now)

    def waiting(self) -> list[tuple[Spec, Collection[Instance]]]:
        """Return every app or pod that waits for offers, and which of its instances do.

        Delays are left aside.
        """
        specs = self.ledger.specs
        waiting = sorted(self.ledger.roll.waiting.items())
        return [(specs[id], instances.values()) for id, instances in waiting if id in specs]

    def launchable(self, now: float) -> list[tuple[Spec, Collection[Instance]]]:
        """Return those that wait and are not in a delay."""
        return [(spec, instances) for spec, instances in self.waiting() if self.due(spec) <= now]

    def due(self, spec: Spec) -> float:
        """Return when *spec* may launch next; 0 when nothing holds it back."""
        backoff = self.backoffs.get(spec.id)
        if backoff is None or backoff.config_version != spec.config_version:
            return 0.0
        return backoff.until

    def placed(self, spec_ids: Iterable[str]) -> dict[str, list[Attributes]]:
        """Return for each of the apps where its instances of the present configuration are."""
        return {
            spec_id: [
                instance.launched.attributes
                for instance in self.ledger.instances_of(spec_id)
                if instance.launched is not None and instance.version >= spec.config_version
            ]
            for spec_id in spec_ids
            if (spec := self.ledger.specs.get(spec_id)) is not None
        }

    def forget(self, instance: Instance) -> None:
        """Drop what is known of a task that is no more."""
        for memory in (self.health, self.checks, self.kills_sent, self.readiness):
            memory.pop(instance.task_id, None)


def _recalled(ledger: Ledger) -> dict[str, dict[int, Health]]:
    """Return what agents last said of tasks that they check, which a restart must not forget."""
    health: dict[str, dict[int, Health]] = {}
    for instance in ledger.instances():
        spec, launched = ledger.specs.get(instance.app_id), instance.launched
        if spec is None or launched is None:
            continue
        if isinstance(spec, Pod):
            members = {member.name: member.healthy for member in launched.members}
            told = {i: members.get(c.name) for i, c in enumerate(spec.containers)}
        else:
            told = dict.fromkeys(agent_run_checks(spec), launched.healthy)
        found = {index: Health(alive=alive) for index, alive in told.items() if alive is not None}
        if found:
            health[instance.task_id] = found
    return health
