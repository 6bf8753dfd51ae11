"""The environment that a task is given (reference marathon §1.8)."""

import re
from collections.abc import Mapping

from phalanx.marathon.model.app import App
from phalanx.marathon.schedule.port import PortPlan

_OTHER = re.compile(r"[^A-Za-z0-9_]+")
_LONGEST_VALUE, _LONGEST_NAME = 511, 492


def task_environment(
    app: App, *, task_id: str, hostname: str, ports: PortPlan, is_role_enforced: bool = False
) -> Mapping[str, str]:
    """Return every variable of the task but secret ones; what the user set wins."""
    image = None if app.container is None else app.container.docker
    variables = {
        "MESOS_TASK_ID": task_id,
        "MARATHON_APP_ID": app.id,
        "MARATHON_APP_VERSION": app.version,
        "MARATHON_APP_RESOURCE_CPUS": str(app.cpus),
        "MARATHON_APP_RESOURCE_MEM": str(app.mem),
        "MARATHON_APP_RESOURCE_DISK": str(app.disk),
        "MARATHON_APP_RESOURCE_GPUS": str(app.gpus),
        "MARATHON_APP_ENFORCE_GROUP_ROLE": str(is_role_enforced).upper(),
        "HOST": hostname,
    }
    if image is not None:
        variables["MARATHON_APP_DOCKER_IMAGE"] = image.image
    own = {name: value for name, value in app.env.items() if isinstance(value, str)}
    return {**variables, **_labels(app), **_ports(app, ports), **own}


def _labels(app: App) -> Mapping[str, str]:
    short = {
        _OTHER.sub("_", name).upper(): value
        for name, value in app.labels.items()
        if len(value) <= _LONGEST_VALUE and len(name) <= _LONGEST_NAME
    }
    return {
        "MARATHON_APP_LABELS": " ".join(sorted(short)),
        **{f"MARATHON_APP_LABEL_{name}": value for name, value in short.items()},
    }


def _ports(app: App, ports: PortPlan) -> Mapping[str, str]:
    if not ports.told:
        return {}
    named: list[tuple[int, str | None]] = (
        [(d.port if app.require_ports else 0, d.name) for d in app.port_definitions or ()]
        if app.is_on_host_network
        else [(mapping.container_port, mapping.name) for mapping in app.mappings]
    )
    variables = {f"PORT{index}": str(port) for index, port in enumerate(ports.told)}
    variables["PORT"] = str(ports.told[0])
    variables["PORTS"] = ",".join(map(str, ports.told))
    for (declared, name), port in zip(named, ports.told, strict=True):
        variables[f"PORT_{declared or port}"] = str(port)
        if name:
            variables[f"PORT_{name.upper()}"] = str(port)
    return variables
