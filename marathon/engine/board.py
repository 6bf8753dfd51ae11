"""What the parts of the engine share: the ledger, and what need not outlive the process."""

import asyncio
from collections.abc import Callable
from random import Random

from phalanx.marathon.engine.bus import Bus
from phalanx.marathon.engine.tally import Tally
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Action, ActionKind
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.schedule import verdict
from phalanx.marathon.schedule.backoff import Backoff
from phalanx.marathon.schedule.constraint import Attributes
from phalanx.marathon.schedule.health import Health, agent_run_check, is_healthy
from phalanx.marathon.schedule.verdict import Verdict
from phalanx.mesos.v1.mesos import CheckStatusInfo


class Board:
    """The state of the engine; whoever changes it holds *lock*, then pokes.

    *health* is by task id and index of the check, *checks* by task id, *backoffs* and *tallies* are
    by app id, *kills_sent* says when a task was last asked to end.
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
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Ask for a pass soon; cheap, safe to call in a burst."""
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
        """Tell whether an instance runs and passes all checks of its app."""
        app = self.ledger.apps.get(instance.app_id)
        results = self.health.get(instance.task_id, {})
        return app is not None and is_healthy(app, instance, results)

    def action_on(self, app_id: str) -> Action | None:
        """Return what a deployment is doing to the app now, or None."""
        for deployment in self.ledger.deployments.values():
            for action in deployment.actions:
                if action.app_id == app_id:
                    return action
        return None

    def verdict_on(self, app_id: str, now: float) -> Verdict:
        """Return what is to happen to the instances of an app."""
        app = self.ledger.apps.get(app_id)
        instances = self.ledger.instances_of(app_id)
        action = self.action_on(app_id)
        if app is None:
            return verdict.stopping(instances)
        if action is None:
            if self._is_awaited(app_id):
                return Verdict()
        elif action.kind is ActionKind.START:
            return Verdict(done=True)
        healthy = {i.id for i in instances if self.is_healthy(i)}
        if action is not None and action.kind is ActionKind.RESTART:
            return verdict.restarting(app, instances, healthy, now)
        return verdict.steady(app, instances, healthy, now)

    def waiting(self) -> list[tuple[App, Instance]]:
        """Return every instance that waits for an offer, and its app; delays are left aside."""
        apps = self.ledger.apps
        return [
            (apps[instance.app_id], instance)
            for instance in self.ledger.instances()
            if instance.condition is Condition.SCHEDULED and instance.app_id in apps
        ]

    def launchable(self, now: float) -> list[tuple[App, Instance]]:
        """Return the waiting instances whose app is not in a delay."""
        return [(a, i) for a, i in self.waiting() if self.due(a) <= now]

    def due(self, app: App) -> float:
        """Return when *app* may launch next; 0 when nothing holds it back."""
        backoff = self.backoffs.get(app.id)
        if backoff is None or backoff.config_version != app.config_version:
            return 0.0
        return backoff.until

    def placed(self) -> dict[str, list[Attributes]]:
        """Return for each app where its instances of the present configuration are."""
        where: dict[str, list[Attributes]] = {}
        for instance in self.ledger.instances():
            app = self.ledger.apps.get(instance.app_id)
            if app is None or instance.launched is None or instance.version < app.config_version:
                continue
            where.setdefault(app.id, []).append(instance.launched.attributes)
        return where

    def _is_awaited(self, app_id: str) -> bool:
        """Tell whether a later step of a deployment is to act on the app."""
        return any(
            action.app_id == app_id
            for deployment in self.ledger.deployments.values()
            for step in deployment.steps[deployment.step + 1 :]
            for action in step
        )


def _recalled(ledger: Ledger) -> dict[str, dict[int, Health]]:
    """Return what agents last said of tasks that they check, which a restart must not forget."""
    health: dict[str, dict[int, Health]] = {}
    for instance in ledger.instances():
        app, launched = ledger.apps.get(instance.app_id), instance.launched
        index = None if app is None else agent_run_check(app)
        if index is not None and launched is not None and launched.healthy is not None:
            health[instance.task_id] = {index: Health(alive=launched.healthy)}
    return health
