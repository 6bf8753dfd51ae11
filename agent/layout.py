"""Where everything of an agent lies (reference mesos §4.7, §6.3, §7.4); pure."""

from dataclasses import dataclass
from pathlib import Path

from phalanx.core.error import InvalidError

LONGEST_ID = 255  # bytes, as a file system counts
LATEST = "latest"  # the link to the last of several directories


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below an agent's two directories: *work* lasts, *runtime* does not."""

    work: Path
    runtime: Path

    @property
    def meta(self) -> Path:
        """Return where checkpoints are."""
        return self.work / "meta"

    @property
    def agents(self) -> Path:
        """Return where the checkpoints of each agent id are."""
        return self.meta / "slaves"

    @property
    def latest(self) -> Path:
        """Return the link to the agent id in use; an operator resets the agent by removing it."""
        return self.agents / LATEST

    @property
    def drain(self) -> Path:
        """Return the file that says that the agent drains."""
        return self.meta / "drain.info"

    @property
    def ledger(self) -> Path:
        """Return the file of what became of the agent's resources."""
        return self.meta / "resources" / "resources_and_operations.state"

    @property
    def images(self) -> Path:
        """Return where the root file systems of images are, unless a setting says so."""
        return self.work / "store" / "docker"

    @property
    def containers(self) -> Path:
        """Return where each container's run directory is."""
        return self.runtime / "containers"

    @property
    def networks(self) -> Path:
        """Return where the state of CNI is."""
        return self.runtime / "isolators" / "network" / "cni"

    @property
    def called(self) -> Path:
        """Return where it is kept which containers were started by a call."""
        return self.runtime / "called"

    @property
    def standalone(self) -> Path:
        """Return where the sandboxes of containers are that belong to no executor."""
        return self.work / "containers"

    @property
    def runc(self) -> Path:
        """Return where runc keeps its state."""
        return self.runtime / "runc"

    @property
    def docker(self) -> Path:
        """Return where the run directories of Docker's containers are."""
        return self.runtime / "docker"

    def run(self, container_id: str) -> Path:
        """Return a container's run directory, which is its bundle too."""
        return self.containers / container_id

    def image_layers(self, container_id: str) -> tuple[Path, Path]:
        """Return what a container of an image writes into, and where the kernel prepares it."""
        return self.run(container_id) / "upper", self.run(container_id) / "work"

    def info(self, agent_id: str) -> Path:
        """Return the file that keeps what we registered as."""
        return self.agents / agent_id / "slave.info"

    def executor(self, agent_id: str, key: tuple[str, str]) -> Path:
        """Return the directory of an executor's checkpoint."""
        framework, executor = map(checked_id, key)
        return self.agents / agent_id / "frameworks" / framework / "executors" / executor

    def checkpoint(
        self,
        agent_id: str,
        key: tuple[str, str],
        container_id: str,
        executor_id: str | None = None,
    ) -> Path:
        """Return the directory of a task's checkpoint; a command task is its own executor."""
        framework, task = map(checked_id, key)
        home = self.executor(agent_id, (framework, executor_id or task))
        return home / "runs" / container_id / "tasks" / task

    def sandbox(self, agent_id: str, key: tuple[str, str], container_id: str) -> Path:
        """Return a task's sandbox."""
        framework, task = map(checked_id, key)
        executors = self.work / "slaves" / agent_id / "frameworks" / framework / "executors"
        return executors / task / "runs" / container_id


def checked_id(text: str) -> str:
    """Return an id that can be a file's name (reference mesos §0.6); raise InvalidError."""
    if not text or text in (".", "..") or len(text.encode()) > LONGEST_ID:
        raise InvalidError(f"id: {text!r}: is not allowed")
    if any(character == "/" or ord(character) < 32 or ord(character) == 127 for character in text):
        raise InvalidError(f"id: {text!r}: has characters that are not allowed")
    return text
