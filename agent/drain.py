"""Whether the agent drains: kept on disk, so that a restarted one goes on with it."""

from dataclasses import dataclass
from pathlib import Path

from phalanx.agent.files import checkpointing
from phalanx.agent.task.record import Kill
from phalanx.core.error import InvalidError
from phalanx.core.files import write_whole
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import DrainConfig

REASON = "REASON_AGENT_DRAINING"
MESSAGE = "Agent is draining"


class Draining(Message, frozen=True, kw_only=True):
    """A drain under way, and when it began (seconds since 1970)."""

    config: DrainConfig
    started: float


@dataclass(slots=True)
class Drainage:
    """The drain of this agent, or none."""

    file: Path
    now: Draining | None = None

    def recover(self) -> None:
        """Take up what an earlier agent left."""
        try:
            self.now = decode(Draining, self.file.read_bytes())
        except (FileNotFoundError, InvalidError):
            self.now = None

    def begin(self, config: DrainConfig, *, at: float) -> None:
        """Keep that the agent drains; raise CheckpointError."""
        started = self.now.started if self.now is not None else at
        draining = Draining(config=config, started=started)
        with checkpointing(self.file):
            write_whole(self.file, encode(draining), durable=True)
        self.now = draining

    def end(self) -> None:
        """Keep that the agent drains no more; raise CheckpointError."""
        with checkpointing(self.file):
            self.file.unlink(missing_ok=True)
        self.now = None


def drain_kill(config: DrainConfig, grace_seconds: float) -> Kill:
    """Return why and how a task of a draining agent is killed: no slower than it would be."""
    most = config.max_grace_period
    grace = grace_seconds if most is None else min(grace_seconds, most.nanoseconds / 1e9)
    return Kill(
        message=MESSAGE,
        reason=REASON,
        grace_seconds=max(grace, 0.0),
        is_gone=config.mark_gone,
    )
