"""The agent's settings."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import ClassVar, Self

from phalanx.agent.cni.dns import parse_defaults
from phalanx.agent.offering import parse_attributes, parse_resources
from phalanx.core.config import MasterAddress, fixed, rendered, setting
from phalanx.core.error import ConfigError, InvalidError
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.server_config import (
    BASIC_ALONE,
    NO_AUTHENTICATION,
    NO_MODULES,
    ServerConfig,
)
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import ContainerInfo, DomainInfo

LONGEST_REREGISTRATION = 15.0  # seconds
CONTAINERIZERS = ("mesos", "docker")
DURATIONS = (
    "disk_watch_interval",
    "executor_registration_timeout",
    "executor_reregistration_timeout",
    "executor_shutdown_grace_period",
    "vip_drain_timeout",
    "http_heartbeat_interval",
    "recovery_timeout",
    "docker_remove_delay",
    "docker_stop_timeout",
    "gc_delay",
    "registration_backoff_factor",
    "zk_session_timeout",
)

# Isolators of Mesos whose effect containers here have, or never need.
ISOLATORS = (
    *("posix/cpu", "posix/mem", "posix/disk", "posix/rlimits", "disk/du"),
    *("cgroups/all", "cgroups/cpu", "cgroups/mem", "cgroups/pids", "cgroups/devices"),
    *("cgroups/blkio", "cgroups/cpuset", "cgroups/hugetlb", "cgroups/net_cls"),
    *("cgroups/net_prio", "cgroups/perf_event"),
    *("filesystem/linux", "filesystem/posix", "docker/runtime", "docker/volume"),
    *("volume/host_path", "volume/image", "volume/sandbox_path", "volume/secret"),
    *("namespaces/ipc", "namespaces/pid", "environment_secret", "network/cni"),
    *("linux/capabilities", "linux/devices", "linux/nnp", "linux/seccomp"),
)


@dataclass(frozen=True, slots=True)
class AgentConfig(ServerConfig):
    """What an agent is told at its start."""

    ROLE: ClassVar[str] = "agent"

    master: MasterAddress = setting(
        "where masters are, whichever leads is found; or the ZooKeeper of their election",
        metavar="HOST:PORT[,HOST:PORT]|zk://…",
    )
    work_dir: Path = setting("directory of checkpoints and sandboxes")
    ip: IPv4Address | None = setting(
        "address to listen on and to be known by (default: the one that leads to the master)",
        default=None,
    )
    ip6: IPv6Address | None = setting(
        "IPv6 address that tasks on the agent's own network are known by too", default=None
    )
    ip6_discovery_command: str = setting(
        "command whose output is the IPv6 address, instead of --ip6", default=""
    )
    port: int = setting("port of the HTTP API", default=5051)
    hostname: str | None = setting("name to be known by instead of the address", default=None)
    domain: str = setting("our fault domain, a DomainInfo as JSON", default="")
    default_role: str = setting("role of resources that name none", default="*")
    runtime_dir: Path | None = setting(
        "directory of what does not outlive a reboot (default: one below /run/phalanx for each "
        "work directory)",
        default=None,
    )
    launcher_dir: Path | None = setting(
        "accepted for Mesos' sake: executors that Mesos brings are part of the agent", default=None
    )
    sandbox_directory: str = fixed(
        "containers of images have it there", default="/mnt/mesos/sandbox"
    )

    # Containers
    containerizers: tuple[str, ...] = setting(
        "which containerizers launches are offered to: mesos, docker", default=("mesos",)
    )
    launcher: str = setting(
        "linux or posix; either way containers have cgroups and namespaces of their own",
        default="linux",
    )
    isolation: tuple[str, ...] = setting(
        "accepted for Mesos' sake: what these isolators do is always done where it can be",
        default=("posix/cpu", "posix/mem"),
    )
    image_providers: tuple[str, ...] = setting(
        "accepted for Mesos' sake: images of Docker are provided for with --docker-registry",
        default=(),
    )
    image_provisioner_backend: str = fixed("roots are overlays", default="", also=("overlay",))
    docker: str = setting("command of Docker", default="docker")
    docker_socket: Path = setting(
        "socket of the Docker engine", default=Path("/var/run/docker.sock")
    )
    docker_remove_delay: str = setting(
        "how long the Docker engine keeps a container that has ended", default="6hrs"
    )
    docker_stop_timeout: str = setting(
        "accepted for Mesos' sake: the grace of a kill is the task's", default="0ns"
    )
    docker_kill_orphans: bool = setting(
        "remove containers of this agent that it knows nothing of, at the start", default=True
    )
    docker_config: str = setting(
        "credentials for the registries of images, the content of Docker's config.json",
        default="",
        metavar="JSON",
    )
    docker_ignore_runtime: bool = fixed("an image's own settings are kept", default=False)
    docker_mesos_image: str = fixed("the agent is no container", default="")
    docker_volume_checkpoint_dir: Path = setting(
        "accepted for Mesos' sake: the Docker engine mounts its own volumes",
        default=Path("/var/run/mesos/isolators/docker/volume"),
    )
    docker_volume_chown: bool = fixed("volumes of Docker keep their owners", default=False)

    default_container_info: str = setting(
        "ContainerInfo of every task and executor that has none", default="", metavar="JSON"
    )
    default_container_dns: str = setting(
        "name servers of CNI networks whose plugin names none", default="", metavar="JSON"
    )

    # Executors
    executor_registration_timeout: str = setting(
        "how long an executor may take to subscribe", default="1mins"
    )
    executor_reregistration_timeout: str = setting(
        "how long executors have to subscribe again after the agent's restart", default="2secs"
    )
    executor_reregistration_retry_interval: str = setting(
        "accepted for Mesos' sake: executors come back by themselves", default=""
    )
    executor_shutdown_grace_period: str = setting(
        "how long an executor may take to end that was told to", default="5secs"
    )
    vip_drain_timeout: str = setting(
        "how long a task behind a VIP serves on after TASK_KILLING, before it is told to end",
        default="1secs",
    )
    executor_environment_variables: str = setting(
        "variables of every command and executor, below their own", default="", metavar="JSON"
    )
    http_command_executor: bool = setting(
        "accepted for Mesos' sake: commands have no executor of their own", default=False
    )
    http_executor_domain_sockets: bool = fixed("executors speak TCP", default=False)
    domain_socket_location: str = fixed("executors speak TCP", default="")
    http_heartbeat_interval: str = setting(
        "time between heartbeats of streams of containers' output", default="30secs"
    )
    recovery_timeout: str = setting(
        "how long executors go on without the agent, as they are told", default="15mins"
    )

    # Recovery
    recover: str = setting(
        "reconnect: go on with what an earlier agent left; cleanup: kill it and end",
        default="reconnect",
    )
    strict: bool = setting(
        "end with an error where a checkpoint can't be read, instead of leaving it out",
        default=True,
    )
    reconfiguration_policy: str = setting(
        "what may change between two starts under one id: equal (nothing) or additive "
        "(more resources, attributes, a domain)",
        default="equal",
    )

    # Sandboxes and memories
    gc_delay: str = setting("longest age of an ended container's sandbox", default="1weeks")
    gc_disk_headroom: float = setting(
        "share of the disk that is to be free: sandboxes go earlier as it fills", default=0.1
    )
    disk_watch_interval: str = setting("time between two looks at the disk", default="1mins")
    gc_non_executor_container_sandboxes: bool = setting(
        "remove sandboxes of nested containers before their executor's", default=False
    )
    max_completed_executors_per_framework: int = setting(
        "ended executors to remember of each framework", default=150
    )

    # Networks
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
    cgroups_root: str | None = setting(
        "cgroup below which containers are (default: one below phalanx for each work directory)",
        default=None,
    )
    cgroups_hierarchy: str = fixed("cgroups are there", default="/sys/fs/cgroup")
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
    host_filesystem: str = setting(
        "the host's file systems in containers without an image: rw, writable as for their user "
        "on the host; ro, read-only beside /tmp and /var/tmp",
        default="rw",
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

    # Timing that Mesos has a say in
    registration_backoff_factor: str = setting(
        "accepted for Mesos' sake: a lost master is looked for after 0.1 to 2 s", default="1secs"
    )
    authentication_timeout_min: str = setting(
        "accepted for Mesos' sake: nobody is authenticated", default="5secs"
    )
    authentication_timeout_max: str = setting(
        "accepted for Mesos' sake: nobody is authenticated", default="1mins"
    )
    authentication_backoff_factor: str = setting(
        "accepted for Mesos' sake: nobody is authenticated", default="1secs"
    )
    zk_session_timeout: str = setting("silence after which ZooKeeper is lost", default="10secs")

    # What Mesos has and we have not
    network_cni_root_dir_persist: bool = fixed(
        "the state of networks goes with the namespaces that it tells of", default=False
    )
    network_cni_metrics: bool = setting("accepted for Mesos' sake", default=True)
    oversubscribed_resources_interval: str = setting(
        "accepted for Mesos' sake: nothing estimates idle resources", default="15secs"
    )
    qos_correction_interval_min: str = setting(
        "accepted for Mesos' sake: nothing corrects quality of service", default="0ns"
    )
    revocable_cpu_low_priority: bool = setting("accepted for Mesos' sake", default=True)
    perf_interval: str = setting("accepted for Mesos' sake: nothing is sampled", default="1mins")
    perf_duration: str = setting("accepted for Mesos' sake: nothing is sampled", default="10secs")
    perf_events: str = fixed("nothing is sampled", default="")
    cgroups_destroy_timeout: str = setting(
        "accepted for Mesos' sake: a cgroup is removed for as long as it takes", default="1mins"
    )
    cgroups_cpu_enable_pids_and_tids_count: bool = setting(
        "accepted for Mesos' sake: processes are always counted", default=False
    )
    systemd_enable_support: bool = setting(
        "accepted for Mesos' sake: supervisors leave the agent's own group", default=False
    )
    systemd_runtime_directory: Path = setting(
        "accepted for Mesos' sake", default=Path("/run/systemd/system")
    )
    authenticate_http_executors: bool = fixed(NO_AUTHENTICATION, default=False)
    authenticatee: str = fixed(NO_AUTHENTICATION, default="crammd5")
    http_authenticators: str = fixed(BASIC_ALONE, default="", also=("basic",))
    credential: str = fixed(NO_AUTHENTICATION, default="")
    jwt_secret_key: str = fixed(NO_AUTHENTICATION, default="")
    authorizer: str = fixed("callers are not authorized", default="local")
    resource_estimator: str = fixed(NO_MODULES, default="")
    qos_controller: str = fixed(NO_MODULES, default="")
    secret_resolver: str = fixed(NO_MODULES, default="")
    container_logger: str = fixed(NO_MODULES, default="")
    resource_provider_config_dir: str = fixed("there are no resource providers", default="")
    csi_plugin_config_dir: str = fixed("there are no resource providers", default="")
    ephemeral_ports_per_container: int = fixed(
        "containers on networks have all ports", default=1024
    )
    eth0_name: str = fixed("ports of the host are not divided", default="")
    lo_name: str = fixed("ports of the host are not divided", default="")
    egress_rate_limit_per_container: str = fixed("a network's own plugin may do it", default="")
    nvidia_gpu_devices: str = fixed("there are no GPUs", default="")
    appc_store_dir: Path = setting(
        "accepted for Mesos' sake: images are Docker's", default=Path("/tmp/mesos/store/appc")
    )
    appc_simple_discovery_uri_prefix: str = setting(
        "accepted for Mesos' sake: images are Docker's", default="http://"
    )
    hadoop_home: str = fixed("nothing is fetched from Hadoop", default="")
    xfs_project_range: str = setting(
        "accepted for Mesos' sake: disks are measured", default="[5000-10000]"
    )

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

    @property
    def runtime(self) -> Path:
        """Return the directory of what does not outlive a reboot; no other agent has it."""
        return self.runtime_dir or Path("/run/phalanx") / f"agent-{self._own_name}"

    @property
    def cgroups(self) -> str:
        """Return the cgroup below which containers are; no other agent has it."""
        return self.cgroups_root or f"phalanx/agent-{self._own_name}"

    @property
    def _own_name(self) -> str:
        return hashlib.sha256(str(self.work_dir).encode()).hexdigest()[:12]

    @property
    def address(self) -> IPv4Address:
        """Return the address that this agent is known by."""
        return self.advertise_ip or self.listening

    @property
    def listening(self) -> IPv4Address:
        """Return the address to listen on, once it is found."""
        return self.ip or IPv4Address("127.0.0.1")

    def found(
        self,
        *,
        ip: IPv4Address | None = None,
        ip6: IPv6Address | None = None,
        hostname: str | None = None,
    ) -> Self:
        """Return the settings with what was found out about this machine."""
        return replace(
            self, ip=ip or self.ip, ip6=ip6 or self.ip6, hostname=hostname or self.hostname
        )

    @property
    def domain_info(self) -> DomainInfo | None:
        """Return the fault domain that this agent is in."""
        try:
            return from_json(DomainInfo, json.loads(self.domain)) if self.domain else None
        except (InvalidError, ValueError) as error:
            raise ConfigError(f"--domain: {error}") from error

    @property
    def default_container(self) -> ContainerInfo | None:
        """Return the container of what asks for none."""
        text = self.default_container_info
        try:
            return from_json(ContainerInfo, json.loads(text)) if text else None
        except (InvalidError, ValueError) as error:
            raise ConfigError(f"--default-container-info: {error}") from error

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the variables of every command and executor."""
        text = self.executor_environment_variables
        try:
            found = json.loads(text) if text else {}
        except ValueError as error:
            raise ConfigError(f"--executor-environment-variables: {error}") from error
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise ConfigError(f"--executor-environment-variables: {text!r}: is no object of texts")
        return found

    def flags(self) -> Mapping[str, str]:
        """Return the settings as ``/flags`` shows them, with what follows from them."""
        return dict(
            sorted(
                {
                    **rendered(self),
                    "runtime_dir": str(self.runtime),
                    "cgroups_root": self.cgroups,
                }.items()
            )
        )

    def __post_init__(self) -> None:
        """Raise ConfigError for values that can't be used, alone or together."""
        self.check_common(self.port)
        parse_resources(self.resources, self.default_role)
        parse_attributes(self.attributes)
        self.domain_info  # noqa: B018 - raises when it can't be parsed
        self.default_container  # noqa: B018 - raises when it can't be parsed
        self.variables  # noqa: B018 - raises when it can't be parsed
        if self.seconds("executor_reregistration_timeout") > LONGEST_REREGISTRATION:
            text = self.executor_reregistration_timeout
            raise ConfigError(f"--executor-reregistration-timeout: {text!r}: is above 15secs")
        for name in DURATIONS:
            self.seconds(name)
        for name, given, known in (
            ("containerizers", self.containerizers, CONTAINERIZERS),
            ("isolation", self.isolation, ISOLATORS),
            ("image-providers", self.image_providers, ("docker",)),
            ("launcher", (self.launcher,), ("linux", "posix")),
            ("host-filesystem", (self.host_filesystem,), ("rw", "ro")),
            ("recover", (self.recover,), ("reconnect", "cleanup")),
            ("reconfiguration-policy", (self.reconfiguration_policy,), ("equal", "additive")),
        ):
            strange = [part for part in given if part not in known]
            if strange or not (given or name == "image-providers"):
                text = strange[0] if strange else ""
                raise ConfigError(f"--{name}: {text!r}: is none of {', '.join(known)}")
        if not 0 <= self.gc_disk_headroom <= 1:
            raise ConfigError(f"--gc-disk-headroom: {self.gc_disk_headroom}: is no share of one")
        if (most := self.max_completed_executors_per_framework) < 0:
            raise ConfigError(f"--max-completed-executors-per-framework: {most}: is below zero")
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
        if not self.cgroups.strip("/") or ".." in self.cgroups.split("/"):
            raise ConfigError(f"--cgroups-root: {self.cgroups_root!r}: is not a cgroup")
        if self.plugin_timeout_seconds <= 0:
            value = self.network_cni_plugin_timeout
            raise ConfigError(f"--network-cni-plugin-timeout: {value!r}: must be more than zero")
        parse_defaults(self.default_container_dns)

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
