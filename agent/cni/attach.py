"""Attach containers to their networks, keep on disk what was done, and undo it.

The state directory is laid out as operators know it (reference mesos §7.4):
``<root>/<container id>/{ns,hosts,hostname,resolv.conf}`` and below it
``<network>/network.conf`` and ``<network>/<interface>/network.info``.
"""

import asyncio
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phalanx.agent.cni.config import (
    NetworkConfig,
    parse_config,
    read_configs,
    takes_result_on_delete,
)
from phalanx.agent.cni.dns import Defaults, completed
from phalanx.agent.cni.etc import render_hosts, render_resolv_conf
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.cni.request import ARGUMENTS_KEY, Attachment, plugin_config
from phalanx.agent.cni.result import Attached, attached
from phalanx.agent.files import read_json
from phalanx.agent.namespace import hold_network, make_network, release_network
from phalanx.core.error import ContainerError
from phalanx.core.files import write_whole
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import IPAddress, NetworkInfo

NAMESPACE_FILE = "ns"
LOOK_SECONDS = 0.1  # between two looks at the configuration directory


def named(networks: Iterable[NetworkInfo]) -> tuple[NetworkInfo, ...]:
    """Return the networks that a container is to join; raise ContainerError for one named twice."""
    wanted = tuple(network for network in networks if network.name)
    names = [network.name for network in wanted]
    for name in names:
        if name is not None and ("/" in name or name in (".", "..", NAMESPACE_FILE)):
            raise ContainerError(f"network_infos: name: {name!r}: can't be a network's")
        if names.count(name) > 1:
            raise ContainerError(f"Attempted to join CNI network '{name}' multiple times")
    return wanted


def given_network(asked: NetworkInfo, result: Attached) -> NetworkInfo:
    """Return what a task's status says of one network: what it asked for, where it is."""
    return NetworkInfo(
        name=asked.name,
        groups=asked.groups,
        labels=asked.labels,
        port_mappings=asked.port_mappings,
        ip_addresses=tuple(
            IPAddress(protocol="IPv6" if ":" in address else "IPv4", ip_address=address)
            for address in result.addresses
        ),
    )


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of this agent's containers."""

    root: Path
    config_directory: Path | None
    plugins: Plugins
    defaults: Defaults = field(default_factory=dict)  # name servers where plugins name none
    patience_seconds: float = 3.0  # for a network that was made a moment ago

    def namespace(self, container_id: str) -> Path:
        """Return where a container's network namespace is held."""
        return self.root / container_id / NAMESPACE_FILE

    def known(self) -> tuple[str, ...]:
        """Return every container that has state here."""
        if not self.root.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.root.iterdir()))

    async def attach(
        self,
        container_id: str,
        asked: Sequence[NetworkInfo],
        hostname: str,
        *,
        pid: int | None = None,
    ) -> tuple[NetworkInfo, ...]:
        """Make a network namespace and attach it to every network; raise ContainerError.

        With *pid* it is the namespace of that process. What was done before a
        failure stays for ``detach``.
        """
        configs = await self._configs(asked)
        home = self.root / container_id
        namespace = home / NAMESPACE_FILE
        if pid is None:
            await asyncio.to_thread(make_network, namespace)
        else:
            await asyncio.to_thread(hold_network, namespace, pid)
        results = await asyncio.gather(
            *(
                self._add(container_id, f"eth{number}", config, network)
                for number, (config, network) in enumerate(zip(configs, asked, strict=True))
            ),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            for failure in failures:
                if not isinstance(failure, ContainerError):
                    raise failure
            raise ContainerError("; ".join(map(str, failures)))
        done = [result for result in results if isinstance(result, Attached)]
        write_whole(home / "hostname", f"{hostname}\n".encode())
        write_whole(home / "hosts", render_hosts(done, hostname).encode())
        resolver = render_resolv_conf(
            completed(config.name, result, self.defaults)
            for config, result in zip(configs, done, strict=True)
        )
        if resolver is not None:
            write_whole(home / "resolv.conf", resolver.encode())
        return tuple(
            given_network(network, result) for network, result in zip(asked, done, strict=True)
        )

    async def _configs(self, asked: Sequence[NetworkInfo]) -> list[NetworkConfig]:
        """Return each network's configuration, waiting a little for one that is not there yet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience_seconds
        while True:
            found = read_configs(self.config_directory) if self.config_directory else {}
            missing = [network.name for network in asked if network.name not in found]
            if not missing:
                return [found[str(network.name)] for network in asked]
            if self.config_directory is None or loop.time() >= deadline:
                raise ContainerError(f"Unknown CNI network '{missing[0]}'")
            await asyncio.sleep(LOOK_SECONDS)

    async def _add(
        self, container_id: str, interface: str, config: NetworkConfig, asked: NetworkInfo
    ) -> Attached:
        home = self.root / container_id / config.name
        (home / interface).mkdir(parents=True)
        write_whole(home / "network.conf", json.dumps(_checkpoint(config, asked)).encode())
        attachment = Attachment(container_id, interface, str(self.namespace(container_id)))
        result = await self.plugins.add(config, asked, attachment)
        write_whole(home / interface / "network.info", json.dumps(result).encode())
        return attached(result)

    async def detach(self, container_id: str) -> None:
        """Undo what ``attach`` did; raise ContainerError and keep the rest if a plugin fails."""
        home = self.root / container_id
        if not home.is_dir():
            return
        namespace = home / NAMESPACE_FILE
        where = str(namespace) if namespace.is_file() and _is_held(namespace) else None
        failures = []
        for conf in sorted(home.glob("*/network.conf")):
            for interface in sorted(path for path in conf.parent.iterdir() if path.is_dir()):
                attachment = Attachment(container_id, interface.name, where)
                try:
                    await self._delete(conf, attachment)
                except ContainerError as error:
                    failures.append(str(error))
                else:
                    shutil.rmtree(interface)
        if failures:
            raise ContainerError("; ".join(failures))
        await asyncio.to_thread(release_network, namespace)
        shutil.rmtree(home)

    async def _delete(self, conf: Path, attachment: Attachment) -> None:
        config, asked = _parse_checkpoint(conf.read_bytes())
        result = read_json(conf.parent / attachment.interface / "network.info")
        if not takes_result_on_delete(config.version):
            result = None
        await self.plugins.delete(config, asked, attachment, result)


def _is_held(path: Path) -> bool:
    """Tell whether a namespace is mounted there, and not just the empty file."""
    return path.stat().st_dev != path.parent.stat().st_dev


def _checkpoint(config: NetworkConfig, asked: NetworkInfo) -> dict[str, Any]:
    """Return the exact JSON that the plugins are fed, as one configuration."""
    fed = [plugin_config(plugin, asked) for plugin in config.plugins]
    if not config.is_list:
        return fed[0]
    return {"cniVersion": config.version, "name": config.name, "plugins": fed}


def _parse_checkpoint(raw: bytes) -> tuple[NetworkConfig, NetworkInfo]:
    """Split a checkpoint into the operator's words and the task's; raise ContainerError."""
    config = parse_config(raw)
    asked = NetworkInfo(name=config.name)
    plugins = []
    for plugin in config.plugins:
        arguments = dict(plugin.get("args", {}))
        asked = from_json(NetworkInfo, arguments.pop(ARGUMENTS_KEY, {}).get("network_info", {}))
        plugins.append({**plugin, "args": arguments})
    return NetworkConfig(config.name, config.version, tuple(plugins), config.is_list), asked
