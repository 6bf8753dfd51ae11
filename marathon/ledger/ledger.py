"""Apps, pods, instances, deployments and the framework id: in memory, and first on disk.

Every write returns when the store has it. A reader sees the old value until then.
"""

import asyncio
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TypeVar

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.core.store.store import Store
from phalanx.marathon.ledger.long import LongStore
from phalanx.marathon.ledger.page import Pages
from phalanx.marathon.ledger.roll import Roll
from phalanx.marathon.ledger.together import together
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Change, Deployment, GroupChange, PodChange
from phalanx.marathon.model.group import Group, Past, Root
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.model.path import safe_form
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec

S = TypeVar("S")

MAX_VERSIONS = 50
CHANGES_AT_ONCE = 200  # made by one deployment; the store has others to hear, and its own session
SLICE_INSTANCES = 1000  # remembered in a row, in a few milliseconds
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

    An instance that waits to be launched, and has no volumes, is not stored: after a
    restart there is a new one in its place, and no task id is ever used twice.
    """

    def __init__(self, store: Store) -> None:
        self._store = LongStore(store)
        self._pages = Pages(self._store)
        self.roll = Roll()
        self._apps: dict[str, App] = {}
        self._pods: dict[str, Pod] = {}
        self._specs: dict[str, Spec] = {}
        self._groups: dict[str, Group] = {}
        self._history: list[Past] = []  # oldest first
        self._deployments: dict[str, Deployment] = {}
        self._unapplied: dict[str, Deployment] = {}  # whose changes could not all be written
        self._doubted: set[str] = set()  # deployments that were refused, and may be stored
        self._failures: dict[str, Failure] = {}
        self.framework_id: str | None = None

    async def load(self) -> None:
        """Read everything; finish what a crash cut short between a deployment and its apps.

        Raises UnavailableError for a row that can't be read: whoever led without
        an app that another version wrote would end its tasks.
        """
        stored = await self._store.get(FRAMEWORK_ID)
        self.framework_id = None if stored is None else stored.value.decode()
        apps, pods, instances = await asyncio.gather(
            self._all("apps", App), self._all("pods", Pod), self._pages.load()
        )
        self._apps = {app.id: app for app in apps}
        self._pods = {pod.id: pod for pod in pods}
        self._specs = {**self._apps, **self._pods}
        self._groups = {group.id: group for group in await self._all("groups", Group)}
        self._history = sorted(await self._all("history", Past), key=lambda past: past.version)
        self._failures = {f.app_id: f for f in await self._all("failures", Failure)}
        for number, instance in enumerate(instances):
            if not number % SLICE_INSTANCES:
                await asyncio.sleep(0)
            self.roll.put(instance)
        deployments = sorted(await self._all("deployments", Deployment), key=lambda d: d.version)
        for deployment in deployments:
            self._deployments[deployment.id] = deployment
            await self.apply(deployment)
        await self._store.tidy(["versions"])

    @property
    def apps(self) -> Mapping[str, App]:
        """Return every app by id."""
        return self._apps

    @property
    def pods(self) -> Mapping[str, Pod]:
        """Return every pod by id."""
        return self._pods

    @property
    def specs(self) -> Mapping[str, Spec]:
        """Return every app and every pod by id."""
        return self._specs

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
    def unapplied(self) -> Mapping[str, Deployment]:
        """Return the deployments some of whose changes are not made yet, oldest first."""
        return self._unapplied

    @property
    def is_settled(self) -> bool:
        """Tell whether all that is stored of deployments is as it is remembered."""
        return not self._unapplied and not self._doubted

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Return the last failure of each app that had one."""
        return self._failures

    @property
    def last_version(self) -> str:
        """Return the newest version of anything; empty when there is nothing."""
        versions = [spec.version for spec in self._specs.values()]
        versions += [deployment.version for deployment in self._deployments.values()]
        versions += [past.version for past in self._history[-1:]]
        return max(versions, default="")

    def spec_ids(self) -> list[str]:
        """Return the ids of apps and pods that are defined or still have instances."""
        return sorted({*self._specs, *self.roll.owners})

    def instances_of(self, spec_id: str) -> Sequence[Instance]:
        """Return the instances of one app or pod."""
        return self.roll.of(spec_id)

    def instance(self, instance_id: str) -> Instance | None:
        """Return one instance, or None."""
        return self.roll.get(instance_id)

    def instances(self) -> list[Instance]:
        """Return all instances."""
        return self.roll.all()

    async def put_framework_id(self, framework_id: str) -> None:
        """Keep the id that the master gave us."""
        await self._store.put(FRAMEWORK_ID, framework_id.encode())
        self.framework_id = framework_id

    async def put_instance(self, instance: Instance) -> None:
        """Keep *instance*."""
        if _is_stored(instance):
            await self._pages.put(instance)
        else:
            await self._pages.remove(instance)
        self.roll.put(instance)

    async def put_instances(self, instances: Iterable[Instance]) -> None:
        """Keep *instances*, all in as few writes as the store makes of it."""
        await together(self.put_instance(instance) for instance in instances)

    async def remove_instance(self, instance: Instance) -> None:
        """Forget *instance*."""
        await self._pages.remove(instance)
        self.roll.remove(instance)

    async def put_deployment(self, deployment: Deployment, *, is_new: bool = False) -> None:
        """Keep *deployment*; a new one also changes the apps and groups that it says.

        When it raises after the deployment is kept, that is one of ``unapplied``. When
        nobody knows whether it is, it is refused: ``settle`` takes it back.
        """
        key, raw = f"deployments/{deployment.id}", msgspec.json.encode(deployment)
        if not is_new:
            await self._store.put(key, raw)
            self._deployments[deployment.id] = deployment
            self.roll.touched |= deployment.spec_ids
            return
        await self.settle()
        self._doubted.add(deployment.id)
        # The past that can't be written now is before anything is changed.
        _, refused = await asyncio.gather(
            self._put_past(deployment), self._store.put(key, raw), return_exceptions=True
        )
        if isinstance(refused, BaseException):
            raise refused
        self._doubted.discard(deployment.id)
        self._deployments[deployment.id] = self._unapplied[deployment.id] = deployment
        self.roll.touched |= deployment.spec_ids
        await self.apply(deployment)

    async def settle(self) -> None:
        """Take back what may be stored of deployments that were refused."""
        for deployment_id in list(self._doubted):
            await self._store.remove(f"deployments/{deployment_id}")
            self._doubted.discard(deployment_id)

    async def remove_deployment(self, deployment_id: str) -> None:
        """Forget a deployment; its apps stay as they are."""
        await self._store.remove(f"deployments/{deployment_id}")
        self._unapplied.pop(deployment_id, None)
        ended = self._deployments.pop(deployment_id, None)
        if ended is not None:
            self.roll.touched |= ended.spec_ids

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

    async def pod_version(self, pod_id: str, version: str) -> Pod | None:
        """Return a pod as it was in one version, or None."""
        stored = await self._store.get(f"versions/{safe_form(pod_id)}/{version}")
        return None if stored is None else msgspec.json.decode(stored.value, type=Pod)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def apply(self, deployment: Deployment) -> None:
        """Make the changes of a kept deployment that are not made yet.

        Each has keys of its own, so they go together.
        """
        version = deployment.version
        if not self._has_past(version):
            await self._put_past(deployment)
        changes = [
            *(partial(self._apply_app, change, version) for change in deployment.changes),
            *(partial(self._apply_pod, pod, version) for pod in deployment.pods),
            *(partial(self._apply_group, group, version) for group in deployment.groups),
        ]
        for begin in range(0, len(changes), CHANGES_AT_ONCE):
            some = changes[begin : begin + CHANGES_AT_ONCE]
            await together(change() for change in some)
        self._unapplied.pop(deployment.id, None)

    async def _apply_app(self, change: Change, version: str) -> None:
        present = self._apps.get(change.app_id)
        if change.after is None:
            if present is not None and present.version < version:
                await self._remove_spec("apps", self._apps, change.app_id)
        elif present is None or present.version < change.after.version:
            await self._put_spec("apps", change.after)
            self._apps[change.app_id] = change.after

    async def _apply_group(self, change: GroupChange, version: str) -> None:
        key, present = f"groups/{safe_form(change.group_id)}", self._groups.get(change.group_id)
        if change.after is not None:
            if present is None or present.version < change.after.version:
                await self._store.put(key, msgspec.json.encode(change.after))
                self._groups[change.group_id] = change.after
        elif present is not None and present.version < version:
            await self._store.remove(key)
            del self._groups[change.group_id]

    def _has_past(self, version: str) -> bool:
        """Tell whether the past of a deployment is kept, or is older than what is kept."""
        versions = [past.version for past in self._history]
        return version in versions or (len(versions) >= MAX_VERSIONS and version < versions[0])

    async def _put_past(self, deployment: Deployment) -> None:
        """Keep what *deployment* is about to change; if it never does, this undoes nothing."""
        past = Past(
            deployment.version,
            {change.app_id: change.before for change in deployment.changes},
            {change.group_id: change.before for change in deployment.groups},
        )
        await self._store.put(f"history/{past.version}", msgspec.json.encode(past))
        insort(self._history, past, key=attrgetter("version"))
        while len(self._history) > MAX_VERSIONS:
            await self._store.remove(f"history/{self._history[0].version}")
            del self._history[0]

    async def _apply_pod(self, change: PodChange, version: str) -> None:
        present = self._pods.get(change.pod_id)
        if change.after is None:
            if present is not None and present.version < version:
                await self._remove_spec("pods", self._pods, change.pod_id)
        elif present is None or present.version < change.after.version:
            await self._put_spec("pods", change.after)
            self._pods[change.pod_id] = change.after

    async def _put_spec(self, kind: str, spec: Spec) -> None:
        raw, key = msgspec.json.encode(spec), safe_form(spec.id)
        version = f"versions/{key}/{spec.version}"
        is_known = spec.id in self._specs
        await together((self._store.put(version, raw), self._store.put(f"{kind}/{key}", raw)))
        self._specs[spec.id] = spec
        self.roll.touched.add(spec.id)
        if is_known:
            for old in (await self.versions(spec.id))[MAX_VERSIONS:]:
                await self._store.remove(f"versions/{key}/{old}")

    async def _remove_spec(self, kind: str, found: dict[str, S], spec_id: str) -> None:
        key = safe_form(spec_id)
        await self._store.remove(f"{kind}/{key}")
        del found[spec_id], self._specs[spec_id]
        self.roll.touched.add(spec_id)
        for version in await self.versions(spec_id):
            await self._store.remove(f"versions/{key}/{version}")
        await self._store.remove(f"failures/{key}")
        self._failures.pop(spec_id, None)

    async def _all(self, prefix: str, kind: type[S]) -> list[S]:
        values = []
        for key, row in (await self._store.list(prefix)).items():
            try:
                values.append(msgspec.json.decode(row.value, type=kind))
            except (msgspec.MsgspecError, ValueError) as error:
                raise UnavailableError(f"state: {key} can't be read: {error}") from error
        return values


def _is_stored(instance: Instance) -> bool:
    return instance.condition is not Condition.SCHEDULED or instance.reservation is not None
