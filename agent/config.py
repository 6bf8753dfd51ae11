"""The agent's settings."""

import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from phalanx.agent.offering import parse_attributes, parse_resources
from phalanx.core.config import HostPort, check_port, setting
from phalanx.core.error import ConfigError, InvalidError
from phalanx.core.log import check_level
from phalanx.mesos.duration import parse_duration


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent is told at its start."""

    master: tuple[HostPort, ...] = setting(
        "where masters are; whichever leads is found", metavar="HOST:PORT[,HOST:PORT]"
    )
    ip: IPv4Address = setting("address to listen on and to be known by")
    port: int = setting("port of the HTTP API", default=5051)
    hostname: str | None = setting("name to be known by (default: the address)", default=None)
    work_dir: Path = setting(
        "directory of checkpoints and sandboxes", default=Path("/var/lib/phalanx/agent")
    )
    runtime_dir: Path = setting(
        "directory of what does not outlive a reboot", default=Path("/run/phalanx/agent")
    )
    network_cni_config_dir: Path | None = setting(
        "directory of CNI network configurations", default=None
    )
    network_cni_plugins_dir: str = setting(
        "directories of CNI plugins", default="", metavar="DIR[:DIR]"
    )
    network_cni_plugin_timeout: str = setting("how long one CNI plugin may take", default="10secs")
    resources: str = setting(
        "resources to offer; those not named are found out", default="", metavar="NAME:VALUE;…"
    )
    attributes: str = setting("attributes to offer", default="", metavar="NAME:VALUE;…")
    cgroups_root: str = setting("cgroup below which containers are", default="phalanx/agent")
    cgroups_enable_cfs: bool = setting("cap each task's CPU at what it asked for", default=False)
    resolv_conf: Path | None = setting(
        "resolv.conf of containers whose networks name no server (default: the host's)",
        default=None,
    )
    docker_registry: Path | None = setting(
        "directory of archives of images: NAME:TAG.tar or NAME.tar", default=None
    )
    docker_store_dir: Path | None = setting(
        "directory of extracted images (default: store/docker in the work directory)",
        default=None,
    )
    cgroups_limit_swap: bool = setting(
        "count swap against the memory limit of each container", default=False
    )
    container_pids_limit: int = setting(
        "most processes and threads of a container; 0 is no limit", default=4096
    )
    container_disk_watch_interval: str = setting(
        "how often the disk that containers use is measured", default="15secs"
    )
    enforce_container_disk_quota: bool = setting(
        "end a container that uses more disk than it has", default=False
    )
    max_output_size: str = setting(
        "most bytes of a container's stdout, and of its stderr, before the file is put aside "
        "as stdout.1; one such file is kept, 0B is no limit",
        default="1GB",
    )
    switch_user: bool = setting(
        "run commands as the user they name, not as the agent's", default=True
    )
    image_user: bool = setting(
        "run the command of an image as the image's User where it names none", default=False
    )
    effective_capabilities: str = setting(
        "capabilities of a container that names none", default="", metavar="JSON"
    )
    bounding_capabilities: str = setting(
        "capabilities that a container may have at most", default="", metavar="JSON"
    )
    no_new_privileges: bool = setting(
        "keep containers from gaining privileges by setuid programs", default=False
    )
    allowed_devices: str = setting(
        "devices that every container may use, beside the common ones",
        default="",
        metavar="JSON",
    )
    seccomp_config_dir: Path | None = setting("directory of seccomp profiles", default=None)
    seccomp_profile_name: str | None = setting(
        "seccomp profile of a container that names none", default=None
    )
    default_container_shm_size: str = setting(
        "size of the /dev/shm of a container that says none", default="64MB"
    )
    disallow_sharing_agent_ipc_namespace: bool = setting(
        "refuse containers that share the agent's IPC namespace", default=False
    )
    disallow_sharing_agent_pid_namespace: bool = setting(
        "refuse containers that share the agent's pid namespace", default=False
    )
    host_path_volume_force_creation: str = setting(
        "directories below which a volume's missing host path is made",
        default="",
        metavar="DIR[:DIR]",
    )
    secrets_dir: Path | None = setting(
        "directory of the secrets that are referred to: NAME, or NAME/KEY", default=None
    )
    fetcher_cache_dir: Path | None = setting(
        "directory of the fetcher's cache, emptied at the start (default: fetch in the work "
        "directory)",
        default=None,
    )
    fetcher_cache_size: str = setting("most bytes in the fetcher's cache", default="2GB")
    fetcher_stall_timeout: str = setting(
        "how long a download may stand still before it is given up", default="1mins"
    )
    frameworks_home: str | None = setting(
        "directory that relative URIs are below", default=None, metavar="DIR"
    )
    runc: str = setting("OCI runtime", default="runc")
    log_level: str = setting("debug, info, warning or error", default="info")

    @property
    def plugin_directories(self) -> tuple[Path, ...]:
        """Return where CNI plugins are looked for."""
        return tuple(Path(part) for part in self.network_cni_plugins_dir.split(":") if part)

    @property
    def plugin_timeout_seconds(self) -> float:
        """Return how long a CNI plugin may take; raise ConfigError if that is no duration."""
        try:
            return parse_duration(self.network_cni_plugin_timeout)
        except InvalidError as error:
            raise ConfigError(f"--network-cni-plugin-timeout: {error}") from error

    def __post_init__(self) -> None:
        """Raise ConfigError for values that can't be used, alone or together."""
        check_port("port", self.port)
        check_level(self.log_level)
        parse_resources(self.resources)
        parse_attributes(self.attributes)
        if not self.master:
            raise ConfigError("--master: '': names no master")
        config_directory, plugins = self.network_cni_config_dir, self.network_cni_plugins_dir
        if (config_directory is None) != (not plugins):
            missing = "plugins" if config_directory is not None else "config"
            raise ConfigError(f"Missing required '--network_cni_{missing}_dir' flag")
        for key, path in (
            ("work-dir", self.work_dir),
            ("runtime-dir", self.runtime_dir),
            ("docker-registry", self.docker_registry),
            ("docker-store-dir", self.docker_store_dir),
        ):
            if path is not None and not path.is_absolute():
                raise ConfigError(f"--{key}: {str(path)!r}: is not absolute")
        if not self.cgroups_root.strip("/") or ".." in self.cgroups_root.split("/"):
            raise ConfigError(f"--cgroups-root: {self.cgroups_root!r}: is not a cgroup")
        if self.plugin_timeout_seconds <= 0:
            value = self.network_cni_plugin_timeout
            raise ConfigError(f"--network-cni-plugin-timeout: {value!r}: must be more than zero")

    def check_places(self) -> None:
        """Raise ConfigError unless this machine has what the settings name."""
        if self.network_cni_config_dir is not None and not self.network_cni_config_dir.is_dir():
            text = str(self.network_cni_config_dir)
            raise ConfigError(f"--network-cni-config-dir: {text!r}: is not a directory")
        if self.docker_registry is not None and not self.docker_registry.is_dir():
            text = str(self.docker_registry)
            raise ConfigError(f"--docker-registry: {text!r}: is not a directory")
        if shutil.which(self.runc) is None:
            raise ConfigError(f"--runc: {self.runc!r}: is not installed")
