"""Apps, instances, deployments and the framework id: in memory, and first on disk.

Every write returns when the store has it. A reader sees the old value until then.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.core.store.store import Store
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Deployment, GroupChange
from phalanx.marathon.model.group import Group, Past, Root
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.path import safe_form

S = TypeVar("S")

MAX_VERSIONS = 50
FRAMEWORK_ID = "framework/id"


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """The last failure of an app's tasks, as clients read it."""

    app_id: str
    host: str
    message: str
    state: str
    task_id: str
    timestamp: str
    version: str
    slave_id: str


class Ledger:
    """The state that outlives the process.

    An instance that waits to be launched is not stored: after a restart there
    is a new one in its place, and no task id is ever used twice.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._instances: dict[str, dict[str, Instance]] = {}
        self._apps: dict[str, App] = {}
        self._groups: dict[str, Group] = {}
        self._history: list[Past] = []  # oldest first
        self._deployments: dict[str, Deployment] = {}
        self._failures: dict[str, Failure] = {}
        self._of: dict[str, str] = {}  # instance id → app id
        self.framework_id: str | None = None

    async def load(self) -> None:
        """Read everything; finish what a crash cut short between a deployment and its apps.

        Raises UnavailableError for a row that can't be read: whoever led without
        an app that another version wrote would end its tasks.
        """
        stored = await self._store.get(FRAMEWORK_ID)
        self.framework_id = None if stored is None else stored.value.decode()
        self._apps = {app.id: app for app in await self._all("apps", App)}
        self._groups = {group.id: group for group in await self._all("groups", Group)}
        self._history = sorted(await self._all("history", Past), key=lambda past: past.version)
        self._failures = {f.app_id: f for f in await self._all("failures", Failure)}
        for instance in await self._all("instances", Instance):
            self._remember(instance)
        deployments = sorted(await self._all("deployments", Deployment), key=lambda d: d.version)
        for deployment in deployments:
            self._deployments[deployment.id] = deployment
            await self._apply(deployment)

    @property
    def apps(self) -> Mapping[str, App]:
        """Return every app by id."""
        return self._apps

    @property
    def root(self) -> Root:
        """Return everything that is defined, as it is now."""
        return Root(dict(self._apps), dict(self._groups))

    @property
    def history(self) -> Sequence[Past]:
        """Return the last changes of the root, newest first."""
        return self._history[::-1]

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        """Return the running deployments by id, oldest first."""
        return self._deployments

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Return the last failure of each app that had one."""
        return self._failures

    @property
    def last_version(self) -> str:
        """Return the newest version of anything; empty when there is nothing."""
        versions = [app.version for app in self._apps.values()]
        versions += [deployment.version for deployment in self._deployments.values()]
        versions += [past.version for past in self._history[-1:]]
        return max(versions, default="")

    def app_ids(self) -> list[str]:
        """Return the ids of apps that are defined or still have instances."""
        return sorted(self._apps.keys() | self._instances.keys())

    def instances_of(self, app_id: str) -> Sequence[Instance]:
        """Return the instances of one app."""
        return list(self._instances.get(app_id, {}).values())

    def instance(self, instance_id: str) -> Instance | None:
        """Return one instance, or None."""
        app_id = self._of.get(instance_id)
        return None if app_id is None else self._instances[app_id][instance_id]

    def instances(self) -> list[Instance]:
        """Return all instances."""
        return [instance for group in self._instances.values() for instance in group.values()]

    async def put_framework_id(self, framework_id: str) -> None:
        """Keep the id that the master gave us."""
        await self._store.put(FRAMEWORK_ID, framework_id.encode())
        self.framework_id = framework_id

    async def put_instance(self, instance: Instance) -> None:
        """Keep *instance*."""
        key = f"instances/{instance.id}"
        known = self.instance(instance.id)
        if instance.condition is not Condition.SCHEDULED:
            await self._store.put(key, msgspec.json.encode(instance))
        elif known is not None and known.condition is not Condition.SCHEDULED:
            await self._store.remove(key)
        self._remember(instance)

    async def remove_instance(self, instance: Instance) -> None:
        """Forget *instance*."""
        await self._store.remove(f"instances/{instance.id}")
        if self._of.pop(instance.id, None) is not None:
            group = self._instances[instance.app_id]
            del group[instance.id]
            if not group:
                del self._instances[instance.app_id]

    async def put_deployment(self, deployment: Deployment, *, is_new: bool = False) -> None:
        """Keep *deployment*; a new one also changes the apps and groups that it says."""
        if is_new:
            await self._put_past(deployment)
        key = f"deployments/{deployment.id}"
        await self._store.put(key, msgspec.json.encode(deployment))
        self._deployments[deployment.id] = deployment
        if is_new:
            await self._apply(deployment)

    async def remove_deployment(self, deployment_id: str) -> None:
        """Forget a deployment; its apps stay as they are."""
        await self._store.remove(f"deployments/{deployment_id}")
        self._deployments.pop(deployment_id, None)

    async def put_failure(self, failure: Failure) -> None:
        """Keep the last failure of an app."""
        key = f"failures/{safe_form(failure.app_id)}"
        await self._store.put(key, msgspec.json.encode(failure))
        self._failures[failure.app_id] = failure

    async def versions(self, app_id: str) -> list[str]:
        """Return the kept versions of an app, newest first."""
        keys = await self._store.list(f"versions/{safe_form(app_id)}")
        return sorted((key.rpartition("/")[2] for key in keys), reverse=True)

    async def version(self, app_id: str, version: str) -> App | None:
        """Return an app as it was in one version, or None."""
        stored = await self._store.get(f"versions/{safe_form(app_id)}/{version}")
        return None if stored is None else msgspec.json.decode(stored.value, type=App)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def _apply(self, deployment: Deployment) -> None:
        for change in deployment.changes:
            present = self._apps.get(change.app_id)
            if change.after is None:
                if present is not None and present.version < deployment.version:
                    await self._remove_app(change.app_id)
            elif present is None or present.version < change.after.version:
                await self._put_app(change.after)

        for group in deployment.groups:
            await self._apply_group(group, deployment.version)

    async def _apply_group(self, change: GroupChange, version: str) -> None:
        key, present = f"groups/{safe_form(change.group_id)}", self._groups.get(change.group_id)
        if change.after is not None:
            if present is None or present.version < change.after.version:
                await self._store.put(key, msgspec.json.encode(change.after))
                self._groups[change.group_id] = change.after
        elif present is not None and present.version < version:
            await self._store.remove(key)
            del self._groups[change.group_id]

    async def _put_past(self, deployment: Deployment) -> None:
        """Keep what *deployment* is about to change; if it never does, this undoes nothing."""
        past = Past(
            deployment.version,
            {change.app_id: change.before for change in deployment.changes},
            {change.group_id: change.before for change in deployment.groups},
        )
        await self._store.put(f"history/{past.version}", msgspec.json.encode(past))
        self._history.append(past)
        while len(self._history) > MAX_VERSIONS:
            await self._store.remove(f"history/{self._history[0].version}")
            del self._history[0]

    async def _put_app(self, app: App) -> None:
        raw, key = msgspec.json.encode(app), safe_form(app.id)
        await self._store.put(f"versions/{key}/{app.version}", raw)
        await self._store.put(f"apps/{key}", raw)
        self._apps[app.id] = app
        for version in (await self.versions(app.id))[MAX_VERSIONS:]:
            await self._store.remove(f"versions/{key}/{version}")

    async def _remove_app(self, app_id: str) -> None:
        key = safe_form(app_id)
        await self._store.remove(f"apps/{key}")
        del self._apps[app_id]
        for version in await self.versions(app_id):
            await self._store.remove(f"versions/{key}/{version}")
        await self._store.remove(f"failures/{key}")
        self._failures.pop(app_id, None)

    def _remember(self, instance: Instance) -> None:
        self._of[instance.id] = instance.app_id
        self._instances.setdefault(instance.app_id, {})[instance.id] = instance

    async def _all(self, prefix: str, kind: type[S]) -> list[S]:
        values = []
        for key, row in (await self._store.list(prefix)).items():
            try:
                values.append(msgspec.json.decode(row.value, type=kind))
            except (msgspec.MsgspecError, ValueError) as error:
                raise UnavailableError(f"state: {key} can't be read: {error}") from error
        return values
