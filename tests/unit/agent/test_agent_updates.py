"""Status updates: what is outstanding, what is on disk, what is sent and when."""

import asyncio
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.agent.files import CheckpointError
from phalanx.agent.layout import Layout
from phalanx.agent.task.log import LENGTH, UpdateRecord, append, records, recover
from phalanx.agent.task.record import Checkpoint, TaskRecord
from phalanx.agent.task.sender import Key, UpdateSender
from phalanx.agent.task.stream import Stream, latest_state, retry_seconds
from phalanx.core.error import UnavailableError
from phalanx.mesos.agent_protocol import AgentUpdate
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import (
    AgentID,
    FrameworkInfo,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

KEY = ("fw", "t")


def status(state: TaskState, uuid: bytes) -> TaskStatus:
    return TaskStatus(task_id=TaskID(value="t"), state=state, uuid=uuid)


STARTING = status(TaskState.TASK_STARTING, b"1")
RUNNING = status(TaskState.TASK_RUNNING, b"2")
FINISHED = status(TaskState.TASK_FINISHED, b"3")


def stream_of(*statuses: TaskStatus) -> Stream:
    stream = Stream()
    for one in statuses:
        stream = stream.with_update(one)
    return stream


def test_updates_go_out_one_by_one_in_order() -> None:
    stream = stream_of(STARTING, RUNNING)

    assert stream.outstanding is STARTING
    assert latest_state(stream) == TaskState.TASK_RUNNING
    assert stream.with_acknowledgement(b"1").outstanding is RUNNING


def test_an_acknowledgement_of_another_update_is_ignored() -> None:
    stream = stream_of(STARTING, RUNNING)

    assert stream.with_acknowledgement(b"2") is stream
    assert Stream().with_acknowledgement(b"2") == Stream()


def test_nothing_comes_after_the_end() -> None:
    stream = stream_of(FINISHED, RUNNING)

    assert stream.latest is FINISHED
    assert not stream.is_done
    assert stream.with_acknowledgement(b"3").is_done


def test_what_was_forwarded_is_the_outstanding_or_the_last_acknowledged() -> None:
    stream = stream_of(STARTING)

    assert stream.forwarded is STARTING
    assert stream.with_acknowledgement(b"1").forwarded is STARTING
    assert Stream().forwarded is None


def test_retries_double_up_to_ten_minutes() -> None:
    assert [retry_seconds(attempt) for attempt in (0, 1, 2, 5, 6, 100)] == [
        *(10.0, 20.0, 40.0, 320.0, 600.0, 600.0)
    ]


def test_a_log_is_replayed(tmp_path: Path) -> None:
    file = tmp_path / "updates"
    append(file, UpdateRecord(type="UPDATE", update=STARTING))
    append(file, UpdateRecord(type="UPDATE", update=RUNNING))
    append(file, UpdateRecord(type="ACK", uuid=b"1"))

    stream = recover(file)

    assert stream.pending == (RUNNING,)
    assert stream.acknowledged == STARTING


def test_no_log_is_an_empty_stream(tmp_path: Path) -> None:
    assert recover(tmp_path / "none") == Stream()


def framed(record: UpdateRecord) -> bytes:
    raw = encode(record)
    return LENGTH.pack(len(raw)) + raw


@given(cut=st.integers(min_value=0, max_value=len(framed(UpdateRecord(type="UPDATE"))) - 1))
def test_a_torn_tail_is_never_a_record(cut: int) -> None:
    whole = framed(UpdateRecord(type="UPDATE", update=STARTING))
    torn = framed(UpdateRecord(type="UPDATE"))[:cut]

    assert [end for end, _ in records(whole + torn)] == [len(whole)]


def test_a_torn_tail_is_cut_off_before_the_next_record(tmp_path: Path) -> None:
    file = tmp_path / "updates"
    append(file, UpdateRecord(type="UPDATE", update=STARTING))
    good = file.stat().st_size
    with file.open("ab") as opened:
        opened.write(b"\x40\x00\x00\x00{")

    assert recover(file).pending == (STARTING,)
    assert file.stat().st_size == good
    append(file, UpdateRecord(type="UPDATE", update=RUNNING))
    assert recover(file).pending == (STARTING, RUNNING)


def test_a_task_that_is_forgotten_leaves_no_directory(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "run")
    record = TaskRecord(
        framework_info=FrameworkInfo(user="root", name="test"),
        task=TaskInfo(name="t", task_id=TaskID(value="t"), agent_id=AgentID(value="S0")),
        container_id="first",
    )
    first, second = (Checkpoint(layout.checkpoint("S0", KEY, run)) for run in ("first", "second"))
    first.write_record(record)
    second.write_record(record)
    executors = tmp_path / "meta/slaves/S0/frameworks/fw/executors"

    first.remove()
    assert second.read_record() == record
    second.remove()

    assert list(executors.iterdir()) == []


def test_an_update_that_the_disk_takes_in_part_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "updates"
    append(file, UpdateRecord(type="UPDATE", update=STARTING))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 10, hard))
    try:
        with pytest.raises(CheckpointError, match="updates': No space left on device"):
            append(file, UpdateRecord(type="UPDATE", update=RUNNING))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert recover(file).pending == (STARTING,)


@pytest.mark.parametrize(
    "broken", [LENGTH.pack(3) + b"{x}", LENGTH.pack(2**31) + b"{}"], ids=["not-json", "too-long"]
)
def test_a_broken_record_ends_the_log(broken: bytes) -> None:
    assert list(records(broken)) == []


class Wire:
    """The master's side: keeps what was sent, or refuses."""

    def __init__(self) -> None:
        self.sent: list[AgentUpdate] = []
        self.is_down = False
        self.done: list[Key] = []

    async def send(self, update: AgentUpdate) -> None:
        if self.is_down:
            raise UnavailableError("no master")
        self.sent.append(update)

    def states(self) -> list[TaskState]:
        return [update.status.state for update in self.sent]


async def settle(sender: UpdateSender, wire: Wire, count: int) -> None:
    async with asyncio.timeout(30.0):
        while len(wire.sent) < count:  # noqa: ASYNC110 - there is nothing to be woken by
            await asyncio.sleep(0.001)


async def test_the_next_update_goes_out_on_acknowledgement(tmp_path: Path) -> None:
    wire = Wire()
    sender = UpdateSender(wire.send, wire.done.append)
    sender.open(KEY, tmp_path / "updates", Stream())
    sender.resume()

    await sender.add(KEY, STARTING)
    await sender.add(KEY, FINISHED)
    await settle(sender, wire, 1)
    assert wire.states() == [TaskState.TASK_STARTING]
    assert wire.sent[0].latest_state in (TaskState.TASK_STARTING, TaskState.TASK_FINISHED)
    await sender.acknowledge(KEY, b"1")
    await settle(sender, wire, 2)
    await sender.acknowledge(KEY, b"3")

    assert wire.states() == [TaskState.TASK_STARTING, TaskState.TASK_FINISHED]
    assert wire.done == [KEY]
    await sender.close()


async def test_nothing_is_sent_without_a_master(tmp_path: Path) -> None:
    wire = Wire()
    sender = UpdateSender(wire.send, wire.done.append)
    sender.open(KEY, tmp_path / "updates", Stream())

    await sender.add(KEY, STARTING)
    assert list(sender.waiting()) == [KEY]
    assert wire.sent == []
    sender.resume()
    await settle(sender, wire, 1)
    sender.pause()
    sender.resume()
    await settle(sender, wire, 2)

    assert wire.states() == [TaskState.TASK_STARTING] * 2
    await sender.close()


async def test_an_update_that_could_not_be_sent_stays(tmp_path: Path) -> None:
    wire = Wire()
    wire.is_down = True
    sender = UpdateSender(wire.send, wire.done.append)
    sender.open(KEY, tmp_path / "updates", Stream())
    sender.resume()
    await sender.add(KEY, STARTING)

    wire.is_down = False
    sender.resume()
    await settle(sender, wire, 1)

    assert recover(tmp_path / "updates").pending == (STARTING,)
    await sender.close()


async def test_late_words_on_an_unknown_task_are_ignored(tmp_path: Path) -> None:
    wire = Wire()
    sender = UpdateSender(wire.send, wire.done.append)

    await sender.acknowledge(KEY, b"1")
    await sender.add(KEY, RUNNING)

    assert sender.stream(KEY) == Stream()
    await sender.close()
