"""Who we are to the master, kept over restarts, and whether the machine was rebooted since."""

import fcntl
import os
from pathlib import Path

import structlog

from phalanx.agent.files import checkpointing
from phalanx.agent.layout import Layout
from phalanx.core.error import ConfigError, InvalidError
from phalanx.core.files import link_whole, sync_directory, write_whole
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import AgentID, AgentInfo

log = structlog.get_logger()

CAPABILITIES = (
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "RESIZE_VOLUME",
    "AGENT_OPERATION_FEEDBACK",
    "AGENT_DRAINING",
    "TASK_RESOURCE_LIMITS",
)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def hold(layout: Layout) -> int:
    """Keep any other agent out of our work directory; raise ConfigError if one is in it.

    Returns the descriptor that holds the lock for as long as it is open.
    """
    try:
        layout.meta.mkdir(parents=True, exist_ok=True)
        layout.meta.chmod(0o700)  # tasks' environments may hold secrets
        descriptor = os.open(layout.meta / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            text = str(layout.work)
            raise ConfigError(f"--work-dir: {text!r}: another agent is using it") from error
    except OSError as error:
        raise ConfigError(f"--work-dir: {str(layout.work)!r}: {error.strerror}") from error
    return descriptor


def note_boot(layout: Layout, boot_id: str) -> bool:
    """Keep the boot's id; tell whether the last agent ran under another one."""
    file = layout.meta / "boot_id"
    last = file.read_text().strip() if file.exists() else boot_id
    if last != boot_id or not file.exists():
        write_whole(file, f"{boot_id}\n".encode(), durable=True)
    return last != boot_id


def recover_info(layout: Layout, *, is_strict: bool) -> AgentInfo | None:
    """Return what we last registered as; None for a new agent.

    Raises ConfigError for a file that can't be read, unless *is_strict* is false.
    """
    if not layout.latest.is_symlink():
        return None
    file = layout.info(layout.latest.readlink().name)
    try:
        info = decode(AgentInfo, file.read_bytes())
    except FileNotFoundError:
        return None
    except InvalidError as error:
        if is_strict:
            raise ConfigError(f"--strict: {str(file)!r}: {error}") from error
        return None
    return info if info.id is not None else None


def changes(before: AgentInfo, now: AgentInfo, policy: str) -> tuple[str, ...]:
    """Return what *policy* does not let change between two starts under one id, in words."""
    found = []
    if before.hostname != now.hostname:
        found.append(f"hostname: {before.hostname!r} is now {now.hostname!r}")
    if before.port != now.port:
        found.append(f"port: {before.port} is now {now.port}")
    old, new = Resources.of(before.resources), Resources.of(now.resources)
    may_grow = policy == "additive"
    if old != new and not (may_grow and old in new):
        found.append(f"resources: {old!r} are now {new!r}")
    missing = [item for item in before.attributes if item not in now.attributes]
    more = [item for item in now.attributes if item not in before.attributes]
    if missing or (more and not may_grow):
        names = ", ".join(sorted({item.name for item in (*missing, *more)}))
        found.append(f"attributes: {names}: changed")
    if before.domain != now.domain and not (may_grow and before.domain is None):
        found.append("domain: changed")
    return tuple(found)


def kept_id(
    before: AgentInfo | None, now: AgentInfo, *, layout: Layout, policy: str, is_rebooted: bool
) -> AgentID | None:
    """Return the id to go on under; raise ConfigError where too much has changed.

    After a reboot, which no container outlives, an agent that has changed is a new one.
    """
    if before is None:
        return None
    changed = changes(before, now, policy)
    if not changed:
        return before.id
    if is_rebooted:
        log.warning("agent_changed", changes=changed)
        return None
    raise ConfigError(
        f"Incompatible agent info detected: {'; '.join(changed)}.\n"
        f"--reconfiguration-policy: {policy!r} does not allow this. To start as a new agent,"
        f" and lose the tasks of the old one: rm -f {layout.latest}"
    )


def forget_id(layout: Layout) -> None:
    """Be a new agent at the next start."""
    with checkpointing(layout.latest):
        layout.latest.unlink(missing_ok=True)


def keep_id(layout: Layout, info: AgentInfo) -> None:
    """Keep what we registered as; it is on disk when this returns, or CheckpointError is raised."""
    agent_id = info.id.value if info.id else ""
    with checkpointing(layout.agents):
        write_whole(layout.info(agent_id), encode(info), durable=True)
        link_whole(layout.latest, agent_id)
        sync_directory(layout.agents)
