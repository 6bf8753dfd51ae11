"""What the agent keeps of an executor, in files that outlive it (reference mesos §4.7)."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from phalanx.agent.files import checkpointing
from phalanx.core.error import InvalidError
from phalanx.core.files import link_whole, sync_directory, write_whole
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import ExecutorInfo, FrameworkInfo

INFO = "executor.info"
FRAMEWORK = "framework.info"
SENTINEL = "executor.sentinel"
MARKER = "http.marker"
LATEST = "latest"


class ExecutorRecord(Message, frozen=True, kw_only=True):
    """An executor as it was given to us, and the container that it got."""

    framework_info: FrameworkInfo
    executor: ExecutorInfo
    container_id: str

    @property
    def framework_id(self) -> str:
        """Return whose executor it is."""
        return self.framework_info.id.value if self.framework_info.id else ""

    @property
    def executor_id(self) -> str:
        """Return the executor's id, unique within its framework on this agent."""
        return self.executor.executor_id.value

    @property
    def info(self) -> ExecutorInfo:
        """Return what it is, with the framework that it belongs to."""
        return msgspec.structs.replace(self.executor, framework_id=self.framework_info.id)

    @property
    def key(self) -> tuple[str, str]:
        """Return framework and executor id."""
        return self.framework_id, self.executor_id

    @property
    def is_native(self) -> bool:
        """Tell whether we carry its tasks out ourselves, without a process of its own."""
        return self.executor.type == "DEFAULT"

    def has_capability(self, name: str) -> bool:
        """Tell whether the framework has a capability."""
        return any(item.type == name for item in self.framework_info.capabilities)


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one executor's files; what can't be written raises CheckpointError."""

    directory: Path
    container_id: str

    @property
    def run(self) -> Path:
        """Return where the files of its container are, those of its tasks below."""
        return self.directory / "runs" / self.container_id

    @property
    def has_ended(self) -> bool:
        """Tell whether the executor's end is known to us."""
        return (self.run / SENTINEL).exists()

    @property
    def has_subscribed(self) -> bool:
        """Tell whether the executor has ever spoken to us."""
        return (self.run / "pids" / MARKER).exists()

    def write(self, record: ExecutorRecord) -> None:
        """Keep an executor; it is on disk when this returns."""
        with checkpointing(self.directory):
            (self.run / "tasks").mkdir(parents=True, exist_ok=True)
            (self.run / "pids").mkdir(exist_ok=True)
            framework = encode(record.framework_info)
            write_whole(self.directory.parent.parent / FRAMEWORK, framework, durable=True)
            write_whole(self.directory / INFO, encode(record.executor), durable=True)
            latest = self.directory / "runs" / LATEST
            link_whole(latest, self.container_id)
            sync_directory(latest.parent)

    def write_framework(self, info: FrameworkInfo) -> None:
        """Keep what the framework is now."""
        with checkpointing(self.directory):
            write_whole(self.directory.parent.parent / FRAMEWORK, encode(info), durable=True)

    def write_marker(self) -> None:
        """Keep that the executor has subscribed."""
        with checkpointing(self.run):
            write_whole(self.run / "pids" / MARKER, b"", durable=True)

    def write_pid(self, pid: int) -> None:
        """Keep the first process of the executor's container, for operators to read."""
        with checkpointing(self.run):
            write_whole(self.run / "pids" / "forked.pid", str(pid).encode())

    def write_end(self) -> None:
        """Keep that the executor has ended and everyone has been told."""
        with checkpointing(self.run):
            write_whole(self.run / SENTINEL, b"", durable=True)

    def remove(self) -> None:
        """Forget this run, its executor if it was the last, its framework likewise."""
        shutil.rmtree(self.run, ignore_errors=True)
        runs = self.directory / "runs"
        latest = runs / LATEST
        with suppress(OSError):
            if latest.readlink().name == self.container_id:
                latest.unlink()
        with suppress(OSError):
            runs.rmdir()
            shutil.rmtree(self.directory, ignore_errors=True)
            executors = self.directory.parent
            executors.rmdir()
            (executors.parent / FRAMEWORK).unlink(missing_ok=True)
            executors.parent.rmdir()


def read_executors(directory: Path) -> tuple[tuple[ExecutorRecord, Home], ...]:
    """Return the runs of the executor kept in a directory, none of what is there in part only."""
    try:
        executor = decode(ExecutorInfo, (directory / INFO).read_bytes())
        framework = decode(FrameworkInfo, (directory.parent.parent / FRAMEWORK).read_bytes())
        runs = [run for run in sorted((directory / "runs").iterdir()) if not run.is_symlink()]
    except (OSError, InvalidError):
        return ()
    records = (
        ExecutorRecord(framework_info=framework, executor=executor, container_id=run.name)
        for run in runs
    )
    return tuple((record, Home(directory, record.container_id)) for record in records)
