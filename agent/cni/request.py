"""What a plugin is given: environment and standard input (reference mesos §7.7); pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phalanx.core.error import ContainerError
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import NetworkInfo

ARGUMENTS_KEY = "org.apache.mesos"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container."""

    container_id: str
    interface: str
    network: str | None  # path of the network namespace; None when it is gone


def plugin_environment(
    command: str, attachment: Attachment, *, plugin_path: str, search_path: str
) -> dict[str, str]:
    """Return exactly the variables that a plugin sees."""
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_IFNAME": attachment.interface,
        "CNI_PATH": plugin_path,
        "PATH": search_path,
    }
    if attachment.network is not None:
        environment["CNI_NETNS"] = attachment.network
    return environment


def plugin_config(
    plugin: Mapping[str, Any], asked: NetworkInfo, *, previous: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a plugin's standard input: the operator's words, the task's wishes, what came before.

    Raises ContainerError when the operator's ``args`` leave no room for ours.
    """
    arguments = plugin.get("args", {})
    if not isinstance(arguments, dict):
        raise ContainerError(f"args: {arguments!r}: is not an object")
    if ARGUMENTS_KEY in arguments:
        raise ContainerError(f"args: {ARGUMENTS_KEY!r} is reserved by Mesos")
    config = {
        **plugin,
        "args": {**arguments, ARGUMENTS_KEY: {"network_info": to_json(asked)}},
    }
    runtime = plugin.get("runtimeConfig")
    if wishes := _wishes(plugin, asked):
        config["runtimeConfig"] = {**(runtime if isinstance(runtime, dict) else {}), **wishes}
    if previous is not None:
        config["prevResult"] = previous
    return config


def _wishes(plugin: Mapping[str, Any], asked: NetworkInfo) -> dict[str, Any]:
    """Return what the task asks for of the things that the plugin says it is capable of."""
    capabilities = plugin.get("capabilities")
    if not isinstance(capabilities, dict):
        return {}
    addresses = [each.ip_address for each in asked.ip_addresses if each.ip_address]
    ports = [
        {
            "hostPort": mapping.host_port,
            "containerPort": mapping.container_port,
            "protocol": (mapping.protocol or "tcp").lower(),
        }
        for mapping in asked.port_mappings
    ]
    wishes = {"portMappings": ports, "ips": addresses}
    return {key: value for key, value in wishes.items() if value and capabilities.get(key)}
