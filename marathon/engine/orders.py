"""What operators order: changes of apps, kills, the end of a deployment."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from phalanx.core.error import ConflictError, NotFoundError, PhalanxError
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.definition.service_port import service_ports, with_service_ports
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import tell_end, tell_step
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.moment import next_version
from phalanx.marathon.schedule.planning import Apps, changes, stamped, steps

MAX_DEPLOYMENTS = 100

Edit = Callable[[Apps], Apps]


class LockedError(ConflictError):
    """Other deployments hold an app; *deployments* are their ids."""

    def __init__(self, deployments: Collection[str]) -> None:
        super().__init__(
            "App is locked by one or more deployments. Override with the option '?force=true'."
            " View details at '/v2/deployments/<DEPLOYMENT_ID>'."
        )
        self.deployments = tuple(deployments)


class TooManyError(PhalanxError):
    """No more deployments at a time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who orders, as the event stream tells it."""

    client: str
    uri: str


class Orders:
    """Carries out what operators order: one at a time, stored before it is answered."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def change(
        self,
        edit: Edit,
        origin: Origin,
        *,
        force: bool = False,
        restart: Collection[str] = (),
        sentenced: Iterable[Instance] = (),
    ) -> Deployment:
        """Apply *edit* to all apps and deploy the difference.

        Apps in *restart* get new instances even if nothing differs; *sentenced*
        instances end for good. Raises what *edit* raises, LockedError when a
        deployment holds one of the apps and *force* is not set, and TooManyError.
        """
        board = self._board
        async with board.lock:
            deployment = self._planned(edit, restart)
            await self._clear(deployment, force=force)
            if deployment.steps:
                await board.ledger.put_deployment(deployment, is_new=True)
            for instance in sentenced:
                await board.ledger.put_instance(msgspec.structs.replace(instance, is_wanted=False))
            for change in deployment.changes:
                board.backoffs.pop(change.app_id, None)
            self._tell(deployment, origin)
        board.poke()
        return deployment

    async def revert(self, deployment_id: str, origin: Origin) -> Deployment:
        """Deploy the opposite of a running deployment, in its place."""
        original = self._deployment(deployment_id)

        def edit(apps: Apps) -> Apps:
            undone = dict(apps)
            for change in original.changes:
                undone.pop(change.app_id, None)
                if change.before is not None:
                    undone[change.app_id] = change.before
            return undone

        return await self.change(edit, origin, force=True)

    async def forget(self, deployment_id: str) -> None:
        """Stop a deployment where it is."""
        board = self._board
        async with board.lock:
            deployment = self._deployment(deployment_id)
            await board.ledger.remove_deployment(deployment_id)
            tell_end(board.bus, deployment, reason="The upgrade has been cancelled")
        board.poke()

    async def kill(self, instances: Iterable[Instance]) -> None:
        """Kill the tasks of *instances*; others take their places."""
        board = self._board
        async with board.lock:
            for instance in instances:
                present = board.ledger.instance(instance.id)
                if present is not None and present.launched is not None:
                    await board.ledger.put_instance(msgspec.structs.replace(present, doomed=True))
        board.poke()

    def reset_delay(self, app_id: str) -> None:
        """Let an app that is delayed launch at once."""
        self._board.backoffs.pop(app_id, None)
        self._board.poke()

    def _deployment(self, deployment_id: str) -> Deployment:
        found = self._board.ledger.deployments.get(deployment_id)
        if found is None:
            raise NotFoundError(f"DeploymentPlan {deployment_id} does not exist")
        return found

    def _planned(self, edit: Edit, restart: Collection[str]) -> Deployment:
        ledger = self._board.ledger
        before = ledger.apps
        edited = edit(before)
        version = next_version(self._board.clock(), ledger.last_version)
        after: dict[str, App] = dict(edited)
        for app_id, app in edited.items():
            old = before.get(app_id)
            if old == app and app_id not in restart:
                continue
            taken = {
                port
                for other_id, other in (*before.items(), *after.items())
                if other_id != app_id
                for port in service_ports(other)
            }
            ported = with_service_ports(app, before=old, taken=taken)
            after[app_id] = stamped(old, ported, version, restart=app_id in restart)
        changed = changes(before, after)
        return Deployment(
            id=self._board.identity(),
            version=version,
            changes=changed,
            steps=steps(changed, after),
        )

    async def _clear(self, deployment: Deployment, *, force: bool) -> None:
        """Make sure that no other deployment holds the same apps."""
        board = self._board
        running = board.ledger.deployments
        conflicts = [d for d in running.values() if d.app_ids & deployment.app_ids]
        if conflicts and not force:
            raise LockedError([conflict.id for conflict in conflicts])
        if len(running) - len(conflicts) >= MAX_DEPLOYMENTS:
            raise TooManyError(
                f"Max number ({MAX_DEPLOYMENTS}) of running deployments is achieved. Wait for"
                " existing deployments to complete or cancel one using force=true parameter."
            )
        for conflict in conflicts:
            await board.ledger.remove_deployment(conflict.id)
            tell_end(board.bus, conflict, reason="The upgrade has been cancelled")

    def _tell(self, deployment: Deployment, origin: Origin) -> None:
        bus = self._board.bus
        for change in deployment.changes:
            if change.after is not None:
                bus.publish(
                    "api_post_event",
                    clientIp=origin.client,
                    uri=origin.uri,
                    appDefinition=render_app(change.after),
                )
        bus.publish("group_change_success", groupId="/", version=deployment.version)
        tell_step(bus, "deployment_info", deployment)
        if not deployment.steps:
            tell_end(bus, deployment)


def with_app(app: App) -> Edit:
    """Return the edit that puts *app* in, whether it was there or not."""
    return lambda apps: {**apps, app.id: app}


def without(app_ids: Collection[str]) -> Edit:
    """Return the edit that takes apps out."""

    def edit(apps: Apps) -> Mapping[str, App]:
        return {app_id: app for app_id, app in apps.items() if app_id not in app_ids}

    return edit
