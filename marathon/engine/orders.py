"""What operators order: changes of apps, kills, the end of a deployment."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from phalanx.core.error import ConflictError, NotFoundError, PhalanxError
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import tell_end, tell_step
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.group import Past, Root, root_before
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.moment import next_version
from phalanx.marathon.schedule.planning import Apps, planned

MAX_DEPLOYMENTS = 100

Edit = Callable[[Root], Root]


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
    """Who orders, and what group is to change, as the event stream tells it."""

    client: str
    uri: str
    group: str = "/"


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
        """Apply *edit* to the root and deploy the difference.

        Apps in *restart* get new instances even if nothing differs; *sentenced*
        instances end for good. Raises what *edit* raises, LockedError when a
        deployment holds one of the apps and *force* is not set, and TooManyError.
        """
        board = self._board
        async with board.lock:
            try:
                deployment = self.planned(edit, restart)
                await self._clear(deployment, force=force)
            except PhalanxError as error:
                self._tell_refused(origin, error)
                raise
            if deployment.changes or deployment.groups:
                await board.ledger.put_deployment(deployment, is_new=True)
                if not deployment.steps:
                    await board.ledger.remove_deployment(deployment.id)
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

        past = Past(
            original.version,
            {change.app_id: change.before for change in original.changes},
            {change.group_id: change.before for change in original.groups},
        )

        def edit(root: Root) -> Root:
            return root_before(root, [past])

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

    def planned(self, edit: Edit, restart: Collection[str] = ()) -> Deployment:
        """Return the deployment that *edit* would begin now; raise what ``change`` raises."""
        ledger = self._board.ledger
        before = ledger.root
        version = next_version(self._board.clock(), ledger.last_version)
        id = self._board.identity()
        return planned(before, edit(before), id=id, version=version, restart=restart)

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
        bus.publish("group_change_success", groupId=origin.group, version=deployment.version)
        tell_step(bus, "deployment_info", deployment)
        if not deployment.steps:
            tell_end(bus, deployment)

    def _tell_refused(self, origin: Origin, error: PhalanxError) -> None:
        board = self._board
        version = next_version(board.clock(), board.ledger.last_version)
        board.bus.publish(
            "group_change_failed", groupId=origin.group, version=version, reason=str(error)
        )


def of_apps(edit: Callable[[Apps], Apps]) -> Edit:
    """Return *edit* of the apps as an edit of the root."""
    return lambda root: Root(edit(root.apps), root.groups)


def with_app(app: App) -> Callable[[Apps], Apps]:
    """Return the edit that puts *app* in, whether it was there or not."""
    return lambda apps: {**apps, app.id: app}


def without(app_ids: Collection[str]) -> Callable[[Apps], Apps]:
    """Return the edit that takes apps out."""

    def edit(apps: Apps) -> Mapping[str, App]:
        return {app_id: app for app_id, app in apps.items() if app_id not in app_ids}

    return edit
