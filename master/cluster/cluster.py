"""The tables of the leading master, and the sums that must always agree with them."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.filter import FilterTable
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding, OutstandingInverse
from phalanx.master.cluster.task import (
    executor_role,
    is_over,
    key_of,
    resources_of,
    role_of,
    with_status,
)
from phalanx.master.event import (
    AgentRemoved,
    Bus,
    ExecutorKey,
    FrameworkAdded,
    FrameworkRemoved,
    TaskAdded,
    TaskRemoved,
    TasksKilled,
    TaskUpdated,
)
from phalanx.mesos.operation import Conversion
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.maintenance import Schedule
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    ExecutorInfo,
    MachineID,
    MachineInfo,
    Task,
    TaskStatus,
)
from phalanx.mesos.v1.quota import QuotaConfig


@dataclass(frozen=True, slots=True)
class Recovered:
    """An agent of the registry that has not registered with this leader yet."""

    id: str
    info: AgentInfo
    address: IPv4Address


class Cluster:
    """Agents, frameworks, tasks and offers; every change of a sum goes through here.

    Holds at all times: for each agent *used* is the sum over its tasks that
    are not over and its executors, and *offered* the sum over its outstanding
    offers.
    """

    def __init__(
        self, bus: Bus, *, max_completed_frameworks: int = 50, max_completed_tasks: int = 1000
    ) -> None:
        self.bus = bus
        self.agents: dict[str, Agent] = {}
        self.recovered: dict[str, Recovered] = {}
        self.gone: frozenset[str] = frozenset()  # ids that an operator declared gone
        self.frameworks: dict[str, Framework] = {}
        self.completed: OrderedDict[str, Framework] = OrderedDict()
        self.removed: set[str] = set()  # ids of frameworks that are over, forgotten ones too
        self.offers: dict[str, Outstanding] = {}
        self.inverse_offers: dict[str, OutstandingInverse] = {}
        self.filters = FilterTable()
        self.weights: dict[str, float] = {}  # of roles, where an operator set one
        self.quotas: dict[str, QuotaConfig] = {}  # of top-level roles
        self.machines: dict[MachineID, MachineInfo] = {}  # that maintenance is planned for
        self.schedule = Schedule()
        self._max_completed_frameworks = max_completed_frameworks
        self._max_completed_tasks = max_completed_tasks

    # Tasks

    def add_task(self, task: Task) -> None:
        """Take a new task in; its framework and its agent are in the cluster."""
        framework, agent = self._homes(task)
        framework.tasks[task.task_id.value] = task
        agent.tasks.add(key_of(task))
        self._hold(framework, agent, role_of(task, framework.info), resources_of(task))
        self.bus.publish(TaskAdded(task))

    def replace_task(self, task: Task, status: TaskStatus) -> None:
        """Put *task* in the place of the older one of its key, because of *status*."""
        framework, agent = self._homes(task)
        old = framework.tasks[task.task_id.value]
        framework.tasks[task.task_id.value] = task
        if is_over(task) and not is_over(old):
            agent.kills.pop(key_of(task), None)
            self._free(framework, agent, role_of(old, framework.info), resources_of(old))
        self.bus.publish(TaskUpdated(key_of(task), status, task.state, old.state))

    def complete_task(self, task: Task) -> None:
        """Take *task*, whatever its state, out of the active ones and remember it as completed."""
        self._remember(self._withdraw_task(task), task)

    def complete_all(self, framework: Framework, status_of: Callable[[Task], TaskStatus]) -> None:
        """Take every active task of a framework that ends out at once, killed as *status_of* says.

        The same as ``complete_task`` of each at a fraction of the time: sums are
        changed once an agent, and only the tasks that are remembered are made anew.
        """
        tasks = tuple(framework.tasks.values())
        places: defaultdict[tuple[str, str], list[Task]] = defaultdict(list)
        for task in tasks:
            places[task.agent_id.value, role_of(task, framework.info)].append(task)
        for (agent_id, role), there in places.items():
            agent = self.agents[agent_id]
            keys = {key_of(task) for task in there}
            agent.tasks -= keys
            for key in agent.kills.keys() & keys:
                del agent.kills[key]
            if agent.tasks or agent.executors:
                alive = (task for task in there if not is_over(task))
                held = Resources.of(resource for task in alive for resource in task.resources)
            else:  # nobody else holds anything there
                held = agent.held.get(role, _NOTHING)
            self._free(framework, agent, role, held)
        framework.tasks.clear()
        for task in tasks[-self._max_completed_tasks :]:
            status = status_of(task)
            self._remember(framework, with_status(task, status, status.state))
        if tasks:
            self.bus.publish(TasksKilled(tasks, status_of))

    def strand_task(self, task: Task) -> None:
        """Take *task* out of the active ones and keep it as unreachable."""
        framework = self._withdraw_task(task)
        framework.unreachable[task.task_id.value] = task
        while len(framework.unreachable) > self._max_completed_tasks:
            del framework.unreachable[next(iter(framework.unreachable))]

    def complete_stranded(self, task: Task) -> None:
        """Move an unreachable task, now as *task* says, to the completed ones."""
        framework = self.frameworks[task.framework_id.value]
        del framework.unreachable[task.task_id.value]
        self._remember(framework, task)
        self.bus.publish(TaskRemoved(key_of(task)))

    def _remember(self, framework: Framework, task: Task) -> None:
        framework.completed.append(task)
        while len(framework.completed) > self._max_completed_tasks:
            framework.completed.popleft()

    def _withdraw_task(self, task: Task) -> Framework:
        framework, agent = self._homes(task)
        old = framework.tasks.pop(task.task_id.value)
        agent.tasks.discard(key_of(task))
        agent.kills.pop(key_of(task), None)
        self._free(framework, agent, role_of(old, framework.info), resources_of(old))
        self.bus.publish(TaskRemoved(key_of(task)))
        return framework

    # Offers

    def add_offer(self, offer: Outstanding) -> None:
        """Take a new offer in."""
        framework, agent = self.frameworks[offer.framework_id], self.agents[offer.agent_id]
        self.offers[offer.id] = offer
        framework.offers.add(offer.id)
        agent.offers.add(offer.id)
        agent.offered += offer.resources
        _add_scalars(framework, offer.role, offer.resources, sign=1)

    def remove_offer(self, offer: Outstanding) -> None:
        """Forget an offer; its resources are free again."""
        framework, agent = self.frameworks[offer.framework_id], self.agents[offer.agent_id]
        del self.offers[offer.id]
        framework.offers.discard(offer.id)
        agent.offers.discard(offer.id)
        agent.offered -= offer.resources
        _add_scalars(framework, offer.role, offer.resources, sign=-1)

    def offers_of(self, agent: Agent) -> list[Outstanding]:
        """Return the outstanding offers of an agent's resources."""
        return [self.offers[id] for id in agent.offers]

    # Executors

    def add_executor(self, framework: Framework, agent: Agent, executor: ExecutorInfo) -> None:
        """Take an executor in that runs, or will, beside its tasks; it holds resources."""
        key = (framework.id, executor.executor_id.value)
        if key in agent.executors:
            return
        agent.executors[key] = executor
        role = executor_role(executor, framework.info)
        self._hold(framework, agent, role, Resources.of(executor.resources))

    def remove_executor(self, agent: Agent, key: ExecutorKey) -> ExecutorInfo | None:
        """Forget an executor; return it, None when it was not known."""
        executor = agent.executors.pop(key, None)
        framework = self.frameworks.get(key[0])
        if executor is not None and framework is not None:
            role = executor_role(executor, framework.info)
            self._free(framework, agent, role, Resources.of(executor.resources))
        return executor

    # Operations

    def convert(self, agent: Agent, conversion: Conversion) -> None:
        """Apply an operation to what an agent has; raise InvalidError if it lacks it.

        The resources that it consumes must be neither used nor offered.
        """
        agent.total = conversion.apply(agent.total)

    # Inverse offers

    def add_inverse_offer(self, offer: OutstandingInverse) -> None:
        """Take in a request to a framework to leave an agent."""
        self.inverse_offers[offer.id] = offer
        self.frameworks[offer.framework_id].inverse_offers.add(offer.id)
        self.agents[offer.agent_id].inverse_offers.add(offer.id)

    def remove_inverse_offer(self, offer: OutstandingInverse) -> None:
        """Forget such a request."""
        del self.inverse_offers[offer.id]
        framework, agent = self.frameworks.get(offer.framework_id), self.agents.get(offer.agent_id)
        if framework is not None:
            framework.inverse_offers.discard(offer.id)
        if agent is not None:
            agent.inverse_offers.discard(offer.id)

    # Agents and frameworks

    def add_agent(self, agent: Agent) -> None:
        """Take an agent in, in the place of any older record of its id; whoever does tells why."""
        self.recovered.pop(agent.id, None)
        self.agents[agent.id] = agent

    def remove_agent(self, agent: Agent) -> None:
        """Forget an agent that holds neither tasks nor offers any more."""
        del self.agents[agent.id]
        self.clear_filters(agent)
        self.bus.publish(AgentRemoved(agent.id))

    def clear_filters(self, agent: Agent) -> None:
        """Drop every filter of an agent's resources."""
        self.filters.forget_agent(agent.id)

    def add_framework(self, framework: Framework) -> None:
        """Take a framework in."""
        self.frameworks[framework.id] = framework
        self.bus.publish(FrameworkAdded(framework.id))

    def complete_framework(self, framework: Framework) -> None:
        """Move a framework that holds neither tasks nor offers to the completed ones."""
        del self.frameworks[framework.id]
        self.filters.forget_framework(framework.id)
        self.completed[framework.id] = framework
        self.removed.add(framework.id)
        while len(self.completed) > self._max_completed_frameworks:
            self.completed.popitem(last=False)
        self.bus.publish(FrameworkRemoved(framework.info))

    def _homes(self, task: Task) -> tuple[Framework, Agent]:
        return self.frameworks[task.framework_id.value], self.agents[task.agent_id.value]

    def _hold(self, framework: Framework, agent: Agent, role: str, resources: Resources) -> None:
        agent.used += resources
        agent.held = {**agent.held, role: agent.held.get(role, _NOTHING) + resources}
        _add_held(framework, role, resources, sign=1)
        _add_scalars(framework, role, resources, sign=1)

    def _free(self, framework: Framework, agent: Agent, role: str, resources: Resources) -> None:
        agent.used -= resources
        left = agent.held.get(role, _NOTHING) - resources
        others = {key: held for key, held in agent.held.items() if key != role}
        agent.held = {**others, role: left} if left else others
        _add_held(framework, role, resources, sign=-1)
        _add_scalars(framework, role, resources, sign=-1)


_NOTHING = Resources()


def _add_held(framework: Framework, role: str, resources: Resources, *, sign: int) -> None:
    held = framework.held.setdefault(role, {})
    for kind, amount in resources.items():
        if isinstance(amount, int):
            held[kind] = held.get(kind, 0) + sign * amount
            if not held[kind]:
                del held[kind]
    if not held:
        del framework.held[role]


def _add_scalars(framework: Framework, role: str, resources: Resources, *, sign: int) -> None:
    _add_to(framework.scalars, role, resources.scalars, sign)
    _add_to(framework.unreserved, role, resources.loose_scalars, sign)


def _add_to(
    sums: dict[str, dict[str, int]], role: str, scalars: Mapping[str, int], sign: int
) -> None:
    held = sums.setdefault(role, {})
    for name, amount in scalars.items():
        held[name] = held.get(name, 0) + sign * amount
        if not held[name]:
            del held[name]
    if not held:
        del sums[role]
