"""What the event stream tells (reference marathon §2.9): the fields of each kind of event."""

from typing import Any

from phalanx.marathon.definition.render import render_app, render_check, render_pod
from phalanx.marathon.engine.bus import Bus
from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import HealthCheck
from phalanx.marathon.model.deployment import Action, Deployment
from phalanx.marathon.model.instance import Instance, parse_task_id
from phalanx.marathon.schedule.health import Health
from phalanx.mesos.v1.mesos import TaskState

MAX_MESSAGE = 10_000


def steps_of(deployment: Deployment) -> list[dict[str, Any]]:
    """Return the steps of a deployment as JSON."""
    return [{"actions": [action_view(action) for action in step]} for step in deployment.steps]


def action_view(action: Action) -> dict[str, Any]:
    """Return an action as JSON."""
    return {"action": action.kind.value, "pod" if action.kind.is_of_pod else "app": action.app_id}


def plan_of(deployment: Deployment) -> dict[str, Any]:
    """Return a deployment's plan as JSON, with the apps that it changes before and after."""
    original = [render_app(change.before) for change in deployment.changes if change.before]
    target = [render_app(change.after) for change in deployment.changes if change.after]
    pods_before = [render_pod(change.before) for change in deployment.pods if change.before]
    pods_after = [render_pod(change.after) for change in deployment.pods if change.after]
    return {
        "id": deployment.id,
        "version": deployment.version,
        "original": _group(original, pods_before, deployment.version),
        "target": _group(target, pods_after, deployment.version),
        "steps": steps_of(deployment),
    }


def _group(apps: list[dict[str, Any]], pods: list[dict[str, Any]], version: str) -> dict[str, Any]:
    return {"id": "/", "apps": apps, "groups": [], "pods": pods, "dependencies": [],
            "version": version}  # fmt: skip


def tell_step(bus: Bus, kind: str, deployment: Deployment) -> None:
    """Tell ``deployment_info`` or ``deployment_step_success`` of the present step."""
    actions = [action_view(action) for action in deployment.actions]
    bus.tell(kind, lambda: {"plan": plan_of(deployment), "currentStep": {"actions": actions}})


def tell_cancelled(bus: Bus, deployment: Deployment) -> None:
    """Tell that a deployment was ended in the middle of a step."""
    tell_step(bus, "deployment_step_failure", deployment)
    tell_end(bus, deployment, reason="The upgrade has been cancelled")


def tell_end(bus: Bus, deployment: Deployment, *, reason: str | None = None) -> None:
    """Tell that a deployment succeeded, or failed for *reason*."""
    kind = "deployment_success" if reason is None else "deployment_failed"
    why = {} if reason is None else {"reason": reason}
    bus.tell(kind, lambda: {"id": deployment.id, "plan": plan_of(deployment), **why})


def tell_status(
    bus: Bus, instance: Instance, state: TaskState, message: str, *, task_id: str | None = None
) -> None:
    """Tell a task's new state; *instance* as it was for that task.

    *task_id* says which of a pod's tasks it is.
    """
    launched = instance.launched
    bus.publish(
        "status_update_event",
        slaveId="" if launched is None else launched.agent_id,
        taskId=task_id or instance.task_id,
        taskStatus=state.value,
        message=message[:MAX_MESSAGE],
        appId=instance.app_id,
        host="" if launched is None else launched.hostname,
        ipAddresses=[] if launched is None else addresses_of(launched.addresses),
        ports=[] if launched is None else list(launched.host_ports),
        version=instance.version,
    )
    bus.publish(
        "instance_changed_event",
        instanceId=instance.id,
        condition=instance.condition.value,
        runSpecId=instance.app_id,
        agentId="" if launched is None else launched.agent_id,
        host="" if launched is None else launched.hostname,
        runSpecVersion=instance.version,
    )


def tell_health(bus: Bus, instance: Instance, health: Health) -> None:
    """Tell that an instance turned healthy or unhealthy."""
    bus.publish(
        "health_status_changed_event",
        appId=instance.app_id,
        instanceId=instance.id,
        version=instance.version,
        alive=health.alive,
    )
    bus.publish(
        "instance_health_changed_event",
        instanceId=instance.id,
        runSpecId=instance.app_id,
        runSpecVersion=instance.version,
        healthy=health.alive,
    )


def tell_unknown_end(bus: Bus, task_id: str, state: TaskState) -> None:
    """Tell that a task of an instance that nobody knows ended."""
    named = parse_task_id(task_id)
    instance_id = task_id if named is None else named.instance_id
    words = "GONE" if state is TaskState.TASK_LOST else state.value.removeprefix("TASK_")
    bus.publish(
        "unknown_instance_terminated_event",
        instanceId=instance_id,
        runSpecId="/" + instance_id.partition(".instance-")[0].replace("_", "/"),
        condition="".join(word.capitalize() for word in words.split("_")),
    )


def tell_failed_check(bus: Bus, instance: Instance, check: HealthCheck) -> None:
    """Tell that one probe of an instance failed."""
    bus.publish(
        "failed_health_check_event",
        appId=instance.app_id,
        taskId=instance.id,
        instanceId=instance.id,
        healthCheck=render_check(check),
    )


def tell_checks(bus: Bus, before: App | None, after: App | None) -> None:
    """Tell which health checks of an app begin and end with a change."""
    old = () if before is None else before.health_checks
    new = () if after is None else after.health_checks
    if old == new:
        return
    if before is not None and old:
        bus.publish("remove_health_check_event", appId=before.id)
    for check in new:
        if after is not None:
            bus.publish(
                "add_health_check_event",
                appId=after.id,
                version=after.version,
                healthCheck=render_check(check),
            )


def addresses_of(addresses: tuple[str, ...]) -> list[dict[str, str]]:
    """Return IP addresses as clients read them."""
    return [
        {"ipAddress": address, "protocol": "IPv6" if ":" in address else "IPv4"}
        for address in addresses
    ]
