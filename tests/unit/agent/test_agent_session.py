"""A switchboard is a process of its own: real pipes, real sockets, a real terminal."""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from phalanx.agent.exec import supervise
from phalanx.agent.files import read_json
from phalanx.agent.process import Process, is_alive, kill
from phalanx.agent.session import process_io
from phalanx.agent.session.attachment import Attachment, attach
from phalanx.agent.session.process_io import frame, input_frame, target, terminal
from phalanx.core.error import InvalidError, NotFoundError
from phalanx.mesos.v1.agent import Call
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import ContainerID, TTYInfo, WindowSize

PATIENCE_SECONDS = 60.0
PROGRAM = Path(process_io.__file__).with_name("switchboard.py")


async def start_switchboard(
    place: Path, sandbox: Path, tty: TTYInfo | None, *, waits: bool
) -> None:
    arguments = [str(place), terminal(tty), "wait" if waits else "flow"]
    arguments += [str(sandbox / "stdout"), str(sandbox / "stderr")]
    line = await supervise(arguments, timeout_seconds=PATIENCE_SECONDS, program=PROGRAM)
    assert line == b"ready\n"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Path]:
    deep = tmp_path / ("long-" * 20) / ("name-" * 20)  # no unix socket could have this path
    (deep / "sandbox").mkdir(parents=True)
    try:
        yield deep
    finally:
        if (deep / "switchboard").exists():
            kill(board(deep))


async def command(place: Path, words: str) -> asyncio.subprocess.Process:
    """Run a command on the container's ends of the pipes, as a supervisor does."""
    shell = f'exec sh -c "$1" <"{place}/stdin" >"{place}/stdout" 2>"{place}/stderr"'
    return await asyncio.create_subprocess_exec("sh", "-c", shell, "sh", words)


async def heard(attachment: Attachment) -> dict[bytes, bytes]:
    found = {b"1": b"", b"2": b""}
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for kind, data in attachment.outputs():
            found[kind] += data
    return found


def board(place: Path) -> Process:
    facts = read_json(place / "switchboard")
    assert facts is not None
    return Process(facts["pid"], facts["start_time"])


def sockets_of(process: Process) -> int:
    found = 0
    for each in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found += os.readlink(each).startswith("socket:")
    return found


async def gone(process: Process) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while is_alive(process):  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(0.01)


async def test_what_is_written_reaches_who_listens_and_the_files(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=True)
    process = await command(place, "echo out; echo err >&2")
    await process.wait()
    attachment = await attach(place, listens=True)

    said = await heard(attachment)

    assert said == {b"1": b"out\n", b"2": b"err\n"}
    assert (place / "sandbox" / "stdout").read_bytes() == b"out\n"
    assert (place / "sandbox" / "stderr").read_bytes() == b"err\n"
    await attachment.close()
    await gone(board(place))


async def test_input_reaches_the_command_and_ends(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=False)
    process = await command(place, "cat; echo end")
    listening, speaking = await attach(place, listens=True), await attach(place)
    hearing = asyncio.create_task(heard(listening))
    await speaking.send(frame(b"i", b"one "))
    await speaking.send(frame(b"i", b"two\n"))
    await speaking.send(frame(b"e"))

    said = await hearing

    assert said[b"1"] == b"one two\nend\n"
    await process.wait()
    await listening.close()
    await speaking.close()
    await gone(board(place))


@pytest.mark.parametrize("sent", [b"", b"one\n"])
async def test_input_that_ends_before_the_command_reads_is_not_lost(
    place: Path, sent: bytes
) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=False)
    listening, speaking = await attach(place, listens=True), await attach(place)
    hearing = asyncio.create_task(heard(listening))
    if sent:
        await speaking.send(frame(b"i", sent))
    await speaking.send(frame(b"e"))
    await speaking.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        # One to be attached to, and the listener's.
        while sockets_of(board(place)) > 2:  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(0.01)

    process = await command(place, "cat; echo end")

    assert (await hearing)[b"1"] == sent + b"end\n"
    await process.wait()
    await listening.close()
    await gone(board(place))


async def test_a_second_listener_hears_too_after_the_first_has_gone(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=True)
    process = await command(place, "echo one; read line; echo two")
    first = await attach(place, listens=True)
    async for _, data in first.outputs():
        assert data == b"one\n"
        break
    await first.close()
    second = await attach(place, listens=True)
    hearing = asyncio.create_task(heard(second))
    await second.send(frame(b"i", b"go\n"))

    said = await hearing

    assert said[b"1"].endswith(b"two\n")
    await process.wait()
    await second.close()


async def test_more_than_any_buffer_arrives_whole(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=True)
    process = await command(place, "head -c 8000000 /dev/zero")
    attachment = await attach(place, listens=True)

    said = await heard(attachment)

    assert len(said[b"1"]) == 8_000_000
    await process.wait()
    await attachment.close()


async def test_without_a_listener_a_flowing_command_is_never_held_up(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=False)
    process = await command(place, "head -c 8000000 /dev/zero")

    async with asyncio.timeout(PATIENCE_SECONDS):
        status = await process.wait()

    assert status == 0
    await gone(board(place))


async def test_a_board_that_nobody_wants_ends_with_its_directory(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=True)
    process = board(place)

    (place / "attach").unlink()

    await gone(process)


async def test_garbage_ends_only_its_own_connection(place: Path) -> None:
    await start_switchboard(place, place / "sandbox", None, waits=True)
    bad, good = await attach(place), await attach(place, listens=True)
    await bad.send(b"i\xff\xff\xff\xff")
    process = await command(place, "echo well")

    said = await heard(good)

    assert said[b"1"] == b"well\n"
    await process.wait()
    await bad.close()
    await good.close()


def terminal_pair() -> tuple[int, int]:
    return os.openpty()


async def hand_over(place: Path, master: int) -> None:
    """Bring a terminal as runc does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        directory = os.open(place, os.O_RDONLY)
        console.connect(f"/proc/self/fd/{directory}/console")
        os.close(directory)
        socket.send_fds(console, [b"/dev/pts/0"], [master])
    os.close(master)


def window(descriptor: int) -> tuple[int, int]:
    size = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8)
    rows, columns, _, _ = struct.unpack("HHHH", size)
    return rows, columns


async def test_a_terminal_has_a_size_that_can_change(place: Path) -> None:
    tty = TTYInfo(window_size=WindowSize(rows=24, columns=80))
    await start_switchboard(place, place / "sandbox", tty, waits=False)
    master, slave = terminal_pair()
    await hand_over(place, master)
    attachment = await attach(place, listens=True)
    hearing = asyncio.create_task(heard(attachment))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while window(slave) != (24, 80):  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.01)
        await attachment.send(frame(b"w", struct.pack(">HH", 50, 132)))
        while window(slave) != (50, 132):  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.01)
    os.write(slave, b"bye\n")
    os.close(slave)

    said = await hearing

    assert said[b"1"] == b"bye\r\n"
    await attachment.close()
    await gone(board(place))


async def test_no_switchboard_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await attach(tmp_path)
    with pytest.raises(NotFoundError):
        await attach(tmp_path / "nowhere")


def attach_input(**rest: object) -> Call:
    call = {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": rest}
    return from_json(Call, call)


def io(**rest: object) -> Call:
    return attach_input(type="PROCESS_IO", process_io=rest)


def test_the_first_record_names_the_container() -> None:
    call = attach_input(type="CONTAINER_ID", container_id={"value": "c", "parent": {"value": "p"}})

    assert target(call) == ContainerID(value="c", parent=ContainerID(value="p"))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(
            io(type="DATA", data={"type": "STDIN", "data": "aGk="}), frame(b"i", b"hi"), id="input"
        ),
        pytest.param(io(type="DATA", data={"type": "STDIN", "data": ""}), frame(b"e"), id="end"),
        pytest.param(io(type="DATA", data={"type": "STDIN"}), frame(b"e"), id="end-unset"),
        pytest.param(
            io(
                type="CONTROL",
                control={
                    "type": "HEARTBEAT",
                    "heartbeat": {"interval": {"nanoseconds": 30_000_000_000}},
                },
            ),
            None,
            id="heartbeat",
        ),
        pytest.param(
            io(
                type="CONTROL",
                control={
                    "type": "TTY_INFO",
                    "tty_info": {"window_size": {"rows": 70000, "columns": 80}},
                },
            ),
            frame(b"w", struct.pack(">HH", 65535, 80)),
            id="window",
        ),
    ],
)
def test_a_record_becomes_a_frame(call: Call, expected: bytes | None) -> None:
    assert input_frame(call) == expected


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(attach_input(type="CONTAINER_ID", container_id={"value": "c"}), id="again"),
        pytest.param(io(type="DATA", data={"type": "STDOUT", "data": "aGk="}), id="output"),
        pytest.param(io(type="DATA"), id="no-data"),
        pytest.param(io(type="CONTROL", control={"type": "TTY_INFO"}), id="no-size"),
        pytest.param(io(), id="nothing"),
        pytest.param(Call(type="GET_HEALTH"), id="another-call"),
    ],
)
def test_a_record_that_can_not_follow_is_refused(call: Call) -> None:
    with pytest.raises(InvalidError):
        input_frame(call)
