"""How an agent treats the containers that it runs by itself."""

from dataclasses import dataclass, field
from pathlib import Path

from phalanx.agent.bundle.environment import SEARCH_PATH
from phalanx.agent.bundle.spec import Terms


@dataclass(frozen=True, slots=True)
class Ways:
    """How this agent treats containers, as its settings say."""

    ip: str
    launches: int
    ip6: str | None = None
    resolv_conf: Path | None = None
    switches_user: bool = True
    takes_image_user: bool = False
    search_path: str = SEARCH_PATH  # for containers without an image
    terms: Terms = field(default_factory=Terms)
    profiles: Path | None = None  # where seccomp profiles are
    profile: str | None = None
    shm_bytes: int = 64 * 1024**2
    is_host_writable: bool = True  # for containers without an image
    keeps_ipc: bool = False  # for itself
    keeps_pid: bool = False
    disk_seconds: float = 15.0
    enforces_disk: bool = False
