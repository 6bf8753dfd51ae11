"""From an agent's settings to the containerizer that they describe."""

import json
import os
import platform
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phalanx.agent.bundle.environment import searched
from phalanx.agent.bundle.privilege import Granted, names_of
from phalanx.agent.bundle.secret import Secrets
from phalanx.agent.bundle.spec import Device, Terms
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.dns import parse_defaults
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.config import AgentConfig
from phalanx.agent.container.cgroup import Cgroups
from phalanx.agent.container.mesos import MesosContainerizer
from phalanx.agent.container.runtime import Containers
from phalanx.agent.container.spawner import Spawner
from phalanx.agent.container.way import Ways
from phalanx.agent.fetch.fetcher import Fetcher, FetchWays
from phalanx.agent.image.store import Images
from phalanx.agent.layout import Layout
from phalanx.agent.volume.mounting import Volumes
from phalanx.core.error import ConfigError, InvalidError
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.size import parse_size
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import CapabilityInfo, DeviceWhitelist

LAUNCHES_PER_CORE = 2
MACHINES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def build_containerizer(config: AgentConfig, layout: Layout, images: Images) -> MesosContainerizer:
    """Return the Mesos containerizer of an agent; raise ConfigError for settings it can't use."""
    fetcher = Fetcher(
        FetchWays(
            cache=config.fetcher_cache_dir or layout.work / "fetch",
            cache_bytes=_size("fetcher-cache-size", config.fetcher_cache_size),
            stall_seconds=_seconds("fetcher-stall-timeout", config.fetcher_stall_timeout),
            frameworks_home=config.frameworks_home,
        )
    )
    fetcher.clear()
    forced = tuple(part for part in config.host_path_volume_force_creation.split(":") if part)
    return MesosContainerizer(
        layout,
        Containers(
            layout,
            Cgroups(config.cgroups),
            config.runc,
            Spawner(),
            _size("max-output-size", config.max_output_size),
        ),
        Networks(
            layout.networks,
            config.network_cni_config_dir,
            Plugins(config.plugin_directories, config.plugin_timeout_seconds),
            parse_defaults(config.default_container_dns),
        ),
        images,
        fetcher,
        Volumes(images, Secrets(config.secrets_dir), forced),
        Ways(
            ip=str(config.address),
            ip6=str(config.ip6) if config.ip6 is not None else None,
            launches=LAUNCHES_PER_CORE * (os.cpu_count() or 1),
            resolv_conf=config.resolv_conf,
            switches_user=config.switch_user,
            takes_image_user=config.image_user,
            search_path=searched(os.get_exec_path()),
            is_host_writable=config.host_filesystem == "rw",
            terms=_terms(config),
            profiles=config.seccomp_config_dir,
            profile=config.seccomp_profile_name,
            shm_bytes=_size("default-container-shm-size", config.default_container_shm_size),
            keeps_ipc=config.disallow_sharing_agent_ipc_namespace,
            keeps_pid=config.disallow_sharing_agent_pid_namespace,
            disk_seconds=_seconds(
                "container-disk-watch-interval", config.container_disk_watch_interval
            ),
            enforces_disk=config.enforce_container_disk_quota,
        ),
        time.time,
    )


def _terms(config: AgentConfig) -> Terms:
    return Terms(
        has_quota=config.cgroups_enable_cfs,
        limits_swap=config.cgroups_limit_swap,
        pids=config.container_pids_limit,
        granted=Granted(
            effective=_capabilities("effective-capabilities", config.effective_capabilities),
            bounding=_capabilities("bounding-capabilities", config.bounding_capabilities),
        ),
        no_new_privileges=config.no_new_privileges,
        machine_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        devices=parse_devices(config.allowed_devices),
        machine=MACHINES.get(platform.machine(), "SCMP_ARCH_X86_64"),
    )


def parse_devices(text: str) -> tuple[Device, ...]:
    """Return the devices that a DeviceWhitelist in JSON names; raise ConfigError."""
    if not text:
        return ()
    try:
        listed = from_json(DeviceWhitelist, _object("allowed-devices", text))
    except InvalidError as error:
        raise ConfigError(f"--allowed-devices: {error}") from error
    found = []
    for item in listed.allowed_devices:
        path, access = item.device.path, item.access
        if path is None or not path.startswith("/dev/"):
            raise ConfigError(f"--allowed-devices: {path!r}: is no path below /dev")
        try:
            state = Path(path).stat()
        except OSError as error:
            raise ConfigError(f"--allowed-devices: {path!r}: {error.strerror}") from error
        kind = "b" if stat.S_ISBLK(state.st_mode) else "c"
        if kind == "c" and not stat.S_ISCHR(state.st_mode):
            raise ConfigError(f"--allowed-devices: {path!r}: is no device")
        letters = (("r", access.read), ("w", access.write), ("m", access.mknod))
        allowed = "".join(letter for letter, is_allowed in letters if is_allowed)
        number = state.st_rdev
        found.append(Device(path, kind, os.major(number), os.minor(number), allowed))
    return tuple(found)


def _capabilities(key: str, text: str) -> tuple[str, ...] | None:
    if not text:
        return None
    try:
        return names_of(from_json(CapabilityInfo, _object(key, text)))
    except InvalidError as error:
        raise ConfigError(f"--{key}: {error}") from error


def _object(key: str, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--{key}: {text!r}: is no JSON") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--{key}: {text!r}: is no JSON object")
    return value


def _size(key: str, text: str) -> int:
    try:
        return parse_size(text)
    except InvalidError as error:
        raise ConfigError(f"--{key}: {error}") from error


def _seconds(key: str, text: str) -> float:
    try:
        found = parse_duration(text)
    except InvalidError as error:
        raise ConfigError(f"--{key}: {error}") from error
    if found <= 0:
        raise ConfigError(f"--{key}: {text!r}: must be more than zero")
    return found
