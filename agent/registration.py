"""Who we are to the master, kept over restarts, and whether the machine was rebooted since."""

import fcntl
import os
from pathlib import Path

from phalanx.agent.files import checkpointing, sync_directory, write_whole
from phalanx.agent.layout import Layout
from phalanx.core.error import ConfigError, InvalidError
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import AgentInfo

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def hold(layout: Layout) -> int:
    """Keep any other agent out of our work directory; raise ConfigError if one is in it.

    Returns the descriptor that holds the lock for as long as it is open.
    """
    try:
        layout.meta.mkdir(parents=True, exist_ok=True)
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


def recover_id(layout: Layout) -> str | None:
    """Return the id that we last registered under; None for a new agent."""
    if not layout.latest.is_symlink():
        return None
    agent_id = layout.latest.readlink().name
    try:
        info = decode(AgentInfo, layout.info(agent_id).read_bytes())
    except (FileNotFoundError, InvalidError):
        return None
    return info.id.value if info.id else None


def keep_id(layout: Layout, info: AgentInfo) -> None:
    """Keep what we registered as; it is on disk when this returns, or CheckpointError is raised."""
    agent_id = info.id.value if info.id else ""
    with checkpointing(layout.agents):
        write_whole(layout.info(agent_id), encode(info), durable=True)
        temporary = layout.agents / ".latest"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(agent_id)
        temporary.rename(layout.latest)
        sync_directory(layout.agents)
