"""What operators order: changes of apps, kills, the end of a deployment."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from phalanx.core.error import ConflictError, NotFoundError, PhalanxError, UnavailableError
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import tell_cancelled, tell_checks, tell_end, tell_step
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Deployment
from phalanx.marathon.model.group import Past, Root, root_before
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.moment import next_version
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.schedule.planning import Apps, planned
from phalanx.marathon.schedule.pod_planning import PodEdit, Pods, with_pods

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
        pods: PodEdit | None = None,
    ) -> Deployment:
        """Apply *edit* to the root, and *pods* to the pods, and deploy the difference.

        Apps and pods in *restart* get new instances even if nothing differs; *sentenced*
        instances end for good. Raises what the edits raise, LockedError when a
        deployment holds one of the apps and *force* is not set, and TooManyError.
        """
        board = self._board
        async with board.lock:
            try:
                deployment = self.planned(edit, restart, pods)
                await self._clear(deployment, force=force)
            except PhalanxError as error:
                self._tell_refused(origin, error)
                raise
            if deployment.changes or deployment.groups or deployment.pods:
                try:
                    await board.ledger.put_deployment(deployment, is_new=True)
                except UnavailableError:
                    board.poke()  # once it is kept, a pass makes the rest of its changes
                    raise
                if not deployment.steps:
                    await board.ledger.remove_deployment(deployment.id)
            for instance in sentenced:
                await board.ledger.put_instance(msgspec.structs.replace(instance, is_wanted=False))
            for spec_id in deployment.spec_ids:
                board.backoffs.pop(spec_id, None)
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

        def edit_pods(pods: Pods) -> Pods:
            edited: dict[str, Pod] = dict(pods)
            for change in original.pods:
                edited.pop(change.pod_id, None)
                if change.before is not None:
                    edited[change.pod_id] = change.before
            return edited

        return await self.change(edit, origin, force=True, pods=edit_pods)

    async def forget(self, deployment_id: str) -> None:
        """Stop a deployment where it is."""
        board = self._board
        async with board.lock:
            deployment = self._deployment(deployment_id)
            await board.ledger.remove_deployment(deployment_id)
            tell_cancelled(board.bus, deployment)
        board.poke()

    async def kill(self, instances: Iterable[Instance], *, wipe: bool = False) -> None:
        """Kill the tasks of *instances*; others take their places.

        With *wipe* the instances end for good, and others begin anew, without their volumes.
        """
        board = self._board
        async with board.lock:
            found = (board.ledger.instance(instance.id) for instance in instances)
            doomed = [i for i in found if i is not None and (i.launched is not None or wipe)]
            await board.ledger.put_instances(
                msgspec.structs.replace(
                    i, doomed=True, is_wanted=i.is_wanted and not wipe, wiped=i.wiped or wipe
                )
                for i in doomed
            )
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

    def planned(
        self, edit: Edit, restart: Collection[str] = (), pods: PodEdit | None = None
    ) -> Deployment:
        """Return the deployment that *edit* would begin now; raise what ``change`` raises."""
        ledger = self._board.ledger
        before = ledger.root
        version = next_version(self._board.clock(), ledger.last_version)
        id = self._board.identity()
        deployment = planned(before, edit(before), id=id, version=version, restart=restart)
        edited = ledger.pods if pods is None else pods(ledger.pods)
        return with_pods(deployment, before, ledger.pods, edited, restart=restart)

    async def _clear(self, deployment: Deployment, *, force: bool) -> None:
        """Make sure that no other deployment holds the same apps."""
        board = self._board
        running = board.ledger.deployments
        conflicts = [d for d in running.values() if d.spec_ids & deployment.spec_ids]
        if conflicts and not force:
            raise LockedError([conflict.id for conflict in conflicts])
        if len(running) - len(conflicts) >= MAX_DEPLOYMENTS:
            raise TooManyError(
                f"Max number ({MAX_DEPLOYMENTS}) of running deployments is achieved. Wait for"
                " existing deployments to complete or cancel one using force=true parameter."
            )
        for conflict in conflicts:
            await board.ledger.remove_deployment(conflict.id)
            tell_cancelled(board.bus, conflict)

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
            tell_checks(bus, change.before, change.after)
        for pod in deployment.pods:
            kind = "deleted" if pod.after is None else "updated" if pod.before else "created"
            bus.publish(f"pod_{kind}_event", clientIp=origin.client, uri=origin.uri)
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
    return lambda root: replace(root, apps=edit(root.apps))


def with_app(app: App) -> Callable[[Apps], Apps]:
    """Return the edit that puts *app* in, whether it was there or not."""
    return lambda apps: {**apps, app.id: app}


def without(app_ids: Collection[str]) -> Callable[[Apps], Apps]:
    """Return the edit that takes apps out."""

    def edit(apps: Apps) -> Mapping[str, App]:
        return {app_id: app for app_id, app in apps.items() if app_id not in app_ids}

    return edit
