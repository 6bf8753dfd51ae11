"""Run a network's plugins, one after another."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phalanx.agent.cni.config import NetworkConfig, find_plugin
from phalanx.agent.cni.request import Attachment, plugin_config, plugin_environment
from phalanx.agent.cni.result import code_of, parse_result, words_of
from phalanx.agent.exec import run
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import NetworkInfo

TRY_AGAIN_LATER = 11  # the plugin's word that a retry may work (CNI spec, error codes)
RETRY_SECONDS = 0.25
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Plugins:
    """Where plugins are and how long one may take, all tries together."""

    directories: tuple[Path, ...]
    timeout_seconds: float = 10.0

    async def add(
        self, config: NetworkConfig, asked: NetworkInfo, attachment: Attachment
    ) -> dict[str, Any]:
        """Attach a container to a network; return the last result; raise ContainerError."""
        result: dict[str, Any] | None = None
        for plugin in config.plugins:
            out = await self._run("ADD", config, plugin, asked, attachment, result)
            result = parse_result(out)
        return result or {}

    async def delete(
        self,
        config: NetworkConfig,
        asked: NetworkInfo,
        attachment: Attachment,
        result: Mapping[str, Any] | None,
    ) -> None:
        """Detach a container: every plugin in reverse order; raise ContainerError."""
        for plugin in reversed(config.plugins):
            await self._run("DEL", config, plugin, asked, attachment, result)

    async def _run(
        self,
        command: str,
        config: NetworkConfig,
        plugin: Mapping[str, Any],
        asked: NetworkInfo,
        attachment: Attachment,
        previous: Mapping[str, Any] | None,
    ) -> bytes:
        path = find_plugin(str(plugin["type"]), self.directories)
        given = plugin_config(plugin, asked, previous=previous)
        doing = "attach" if command == "ADD" else "detach"
        failed = (
            f"The CNI plugin '{path}' failed to {doing} container {attachment.container_id}"
            f" {'to' if command == 'ADD' else 'from'} CNI network '{config.name}'"
        )
        environment = plugin_environment(
            command,
            attachment,
            plugin_path=_joined(self.directories),
            search_path=SEARCH_PATH,
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout_seconds
        while True:
            try:
                done = await run(
                    [str(path)],
                    given=json.dumps(given).encode(),
                    environment=environment,
                    timeout_seconds=deadline - loop.time(),
                )
            except TimeoutError as error:
                seconds = self.timeout_seconds
                raise ContainerError(f"{failed}: no answer in {seconds:g} s") from error
            if done.status == 0:
                return done.out
            is_over = loop.time() + RETRY_SECONDS >= deadline
            if is_over or code_of(done.out) != TRY_AGAIN_LATER:
                raise ContainerError(f"{failed}: {words_of(done.out, done.err)}")
            await asyncio.sleep(RETRY_SECONDS)


def _joined(directories: Sequence[Path]) -> str:
    return ":".join(map(str, directories))
