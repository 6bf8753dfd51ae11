"""Keeps the published View in step with the cluster, rebuilding only what changed."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog

from phalanx.core.error import UnavailableError
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.task import key_of
from phalanx.master.event import (
    AgentAdded,
    AgentUpdated,
    Bus,
    Change,
    FrameworkAdded,
    FrameworkDisconnected,
    FrameworkRemoved,
    FrameworkUpdated,
    NetworkChanged,
    TaskAdded,
    TaskKey,
    TaskRemoved,
    TasksKilled,
    TaskUpdated,
)
from phalanx.master.network.registry import NetworkRegistry
from phalanx.master.view.project import (
    Master,
    desired_framework,
    desired_nodes,
    desired_task,
    followed_task,
)
from phalanx.mesos.v1 import mesos as v1
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.objects import IPAddress, Object, Task
from phalanx.net.model.view import FIELD_OF, Ref, View
from phalanx.net.model.vip import NamedVip, declared_vips

log = structlog.get_logger()

COALESCE_SECONDS = 0.01
# A View costs in proportion to its tasks; publishing takes no more than a fifth of the time.
COALESCE_SECONDS_PER_TASK = 8e-7
RETRY_SECONDS = 1.0
SLICE_TASKS = 500  # rebuilt in a row, in a few milliseconds


class Publisher:
    """Turns what changed since the last View into the next one.

    The feed is closed until ``open`` is called: a new leader that published
    before its agents are back would take down what still runs.
    """

    def __init__(
        self,
        cluster: Cluster,
        networks: NetworkRegistry,
        bus: Bus,
        *,
        epoch: str,
        leader: Master,
        others: Callable[[], Iterable[Master]] = tuple,
    ) -> None:
        self._cluster = cluster
        self._networks = networks
        self._epoch = epoch
        self._leader = leader
        self._others = others
        self._source = FeedSource()
        self._view = View()
        # What tasks declare as VIPs, names or addresses, by task.
        self._declared: dict[str, frozenset[str | IPAddress]] = {}
        self._wanted: Counter[str] = Counter()  # VIP names, by how many tasks declare them
        self._chosen: Counter[IPAddress] = Counter()  # VIP addresses that tasks chose, likewise
        self._tasks: set[TaskKey] = set()  # to rebuild
        self._frameworks: set[str] = set()  # to rebuild
        self._nodes_changed = True
        self._shown: dict[TaskKey, tuple[v1.Task, Task]] = {}  # in the View, and what of
        self._is_open = False
        self._poked = asyncio.Event()
        bus.subscribe(self._note)
        self._note(NetworkChanged())

    @property
    def is_readable(self) -> bool:
        """Tell whether the feed is open and its first View published."""
        return self._is_open and self._source.current is not None

    @property
    def source(self) -> FeedSource:
        """Return where readers read; raises UnavailableError before the feed opens."""
        if not self.is_readable:
            raise UnavailableError("the feed is closed: agents are still registering again")
        return self._source

    def open(self) -> None:
        """Let readers in, from the next View on."""
        self._is_open = True
        self._poked.set()

    def _note(self, change: Change) -> None:
        match change:
            case TaskAdded(task=task):
                self._mark(key_of(task))
            case TaskUpdated(key=key) | TaskRemoved(key=key):
                self._mark(key)
            case TasksKilled(tasks=tasks):
                self._tasks.update(map(key_of, tasks))
            case FrameworkDisconnected(framework_id=id):
                self._frameworks.add(id)
            case FrameworkAdded(framework_id=id) | FrameworkUpdated(framework_id=id):
                self._frameworks.add(id)
                framework = self._cluster.frameworks.get(id)
                if framework is not None:  # its name is part of its tasks' VIPs
                    its = {(id, task) for task in framework.tasks}
                    self._tasks |= its
                    for key in its:
                        self._shown.pop(key, None)
            case FrameworkRemoved(info=info) if info.id is not None:
                self._frameworks.add(info.id.value)
            case AgentAdded(agent_id=id) | AgentUpdated(agent_id=id):
                self._nodes_changed = True
                agent = self._cluster.agents.get(id)
                if agent is not None:  # its address is part of its tasks
                    self._tasks |= agent.tasks
            case _:
                self._nodes_changed = True  # they are few and built whole, as networks are
        self._poked.set()

    def _mark(self, key: TaskKey) -> None:
        self._tasks.add(key)
        self._frameworks.add(key[0])

    async def run(self) -> None:
        """Publish until cancelled, each burst of changes as one View."""
        while True:
            await self._poked.wait()
            burst = COALESCE_SECONDS + COALESCE_SECONDS_PER_TASK * len(self._view.tasks)
            await asyncio.sleep(burst)
            self._poked.clear()
            if not await self.publish_once():
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS):  # wait_for can swallow a cancel
                        await self._poked.wait()
                self._poked.set()

    async def publish_once(self) -> bool:
        """Publish one View of everything noted; return whether every VIP could be settled."""
        if not self._is_open:
            return True
        upserts, removals = await self._rebuild()
        is_settled = True
        try:
            await self._networks.settle_vips(self._wanted.keys(), self._chosen.keys())
        except UnavailableError as error:
            log.warning("vips_not_settled", error=str(error))
            is_settled = False
        view = self._view.changed(upserts, removals)
        nodes = view.nodes
        if self._nodes_changed:
            self._nodes_changed = False
            nodes = desired_nodes(self._cluster.agents.values(), self._leader, self._others())
        self._view = View(
            nodes=nodes,
            networks=self._networks.networks,
            subnets=self._networks.subnets,
            frameworks=view.frameworks,
            tasks=view.tasks,
            vips=self._networks.vips,
            policies=self._networks.policies,
        )
        only: dict[str, list[str]] = {"frameworks": [], "tasks": []}
        for kind, key in (*((each.kind, each.key) for each in upserts), *removals):
            only[FIELD_OF[kind]].append(key)
        self._source.publish(self._view, epoch=self._epoch, only=only)
        return is_settled

    async def _rebuild(self) -> tuple[list[Object], list[Ref]]:
        """Return what the next View changes, in slices; what changes meanwhile is noted anew."""
        upserts: list[Object] = []
        removals: list[Ref] = []
        tasks, self._tasks = self._tasks, set()
        frameworks, self._frameworks = self._frameworks, set()
        for id in frameworks:
            framework = self._cluster.frameworks.get(id)
            shown = desired_framework(framework) if framework is not None else None
            if shown is None:
                removals.append(("framework", id))
            else:
                upserts.append(shown)
        for number, key in enumerate(tasks, 1):
            if not number % SLICE_TASKS:
                await asyncio.sleep(0)
            before = self._shown.get(key)
            task = self._desired(key)
            if before is not None and task is before[1]:
                continue  # nothing that anybody sees has changed
            if task is None:
                removals.append(("task", "/".join(key)))
            else:
                upserts.append(task)
            self._note_vips(key, task)
        return upserts, removals

    def _desired(self, key: TaskKey) -> Task | None:
        task = self._find(key)
        agent = self._cluster.agents.get(task.agent_id.value) if task is not None else None
        before, shown = self._shown.pop(key, None), None
        if task is not None and agent is not None:
            if before is None:
                shown = desired_task(task, agent.address)
            else:
                shown = followed_task(*before, task, agent.address)
        if task is not None and shown is not None:
            self._shown[key] = task, shown
        return shown

    def _find(self, key: TaskKey) -> v1.Task | None:
        framework = self._cluster.frameworks.get(key[0])
        if framework is None:
            return None
        return framework.tasks.get(key[1]) or framework.unreachable.get(key[1])

    def _note_vips(self, key: TaskKey, task: Task | None) -> None:
        now: frozenset[str | IPAddress] = frozenset()
        if task is not None:
            name = self._cluster.frameworks[key[0]].info.name
            declared = (item.vip for item in declared_vips(task, name))
            now = frozenset(
                vip.name if isinstance(vip, NamedVip) else vip.address for vip in declared
            )
        task_key = "/".join(key)
        before = self._declared.pop(task_key, frozenset())
        if now:
            self._declared[task_key] = now
        for gone in before - now:
            self._count(gone, -1)
        for new in now - before:
            self._count(new, 1)

    def _count(self, declared: str | IPAddress, number: int) -> None:
        counter: Counter[Any] = self._wanted if isinstance(declared, str) else self._chosen
        counter[declared] += number
        if not counter[declared]:
            del counter[declared]
