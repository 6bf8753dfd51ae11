"""Hold the input and output of one container, so that an agent may come and go (mesos §6.3).

Run as a program of its own, ``python -I -S switchboard.py RUN_DIRECTORY KIND FLOW
STDOUT STDERR``, with nothing but the standard library; it forks away and says
``ready`` on standard output. KIND is ``pipes`` or ``tty:ROWSxCOLUMNS``. With
``pipes`` the container gets the FIFOs ``stdin``, ``stdout`` and ``stderr`` of the
run directory, with a tty runc hands the terminal over on the socket ``console``.
With FLOW ``wait`` nothing is read before somebody listens, with ``flow`` at once.
All that is read goes to the files STDOUT and STDERR too.

Whoever connects to the socket ``attach`` speaks in frames: one byte of kind, four
of length, the rest. ``l`` listens, ``i`` is input, ``e`` its end, ``w`` a window
size as rows and columns of two bytes; back come ``1`` and ``2``, what the
container wrote on each of its outputs, and ``x`` when there is no more.

A listener that is slow slows the container, but one that reads nothing for a
while is cut off.
"""

import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import termios
import time
from contextlib import suppress

FRAME = struct.Struct(">cI")
WINDOW = struct.Struct(">HH")
CHUNK = 32 * 1024
MOST_UNSENT = 1024 * 1024  # bytes to one listener before the container has to wait
MOST_UNREAD = 64 * 1024  # bytes of input that the container has not taken
MOST_FRAME = 8 * 1024 * 1024
STALL_SECONDS = 15.0
ENDING_SECONDS = 0.05  # between two looks whether the container reads its input
LINGER_SECONDS = 30.0  # after the last output, for whoever has not read it
END_OF_TRANSMISSION = b"\x04"


class Client:
    """Somebody who is connected: what he has sent, what he has not read."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = bytearray()
        self.unsent = bytearray()
        self.is_listening = False
        self.moved = time.monotonic()

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Queue one frame."""
        if not self.unsent:
            self.moved = time.monotonic()
        self.unsent += FRAME.pack(kind, len(data)) + data


class Board:
    """The container's ends, the clients, and what passes between them."""

    def __init__(self, run: str, files: "tuple[int, int]", *, waits: bool) -> None:
        self.run = run
        self.files = files
        self.waits = waits  # for a first listener
        self.outputs: dict[int, bytes] = {}
        self.input = -1
        self.unread = bytearray()
        self.is_input_over = False
        self.is_ending = False  # all input is written, and the container has not seen its end
        self.is_tty = False
        self.has_begun = False
        self.ended: float | None = None
        self.window: tuple[int, int] | None = None
        self.clients: dict[int, Client] = {}
        self.listener = listen(run, "attach")
        self.console: socket.socket | None = None

    def open_pipes(self) -> None:
        """Make the three pipes and hold our ends of them."""
        for name in ("stdin", "stdout", "stderr"):
            os.mkfifo(os.path.join(self.run, name), 0o600)
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self.input = os.open(os.path.join(self.run, "stdin"), os.O_RDWR | flags)
        for name, kind in (("stdout", b"1"), ("stderr", b"2")):
            self.outputs[os.open(os.path.join(self.run, name), os.O_RDONLY | flags)] = kind
        self.has_begun = True

    def open_console(self, window: "tuple[int, int]") -> None:
        """Wait for runc to bring the terminal."""
        self.is_tty = True
        self.window = window if all(window) else None
        self.console = listen(self.run, "console")

    def loop(self) -> None:
        """Pass on what comes until there is nothing left to pass on."""
        while not self.is_done():
            poll = select.poll()
            poll.register(self.listener, select.POLLIN)
            if self.console is not None:
                poll.register(self.console, select.POLLIN)
            if self.may_read():
                for descriptor in self.outputs:
                    poll.register(descriptor, select.POLLIN)
            if self.unread and self.input >= 0 and self.input not in self.outputs:
                poll.register(self.input, select.POLLOUT)
            elif self.unread and self.input in self.outputs:
                wanted = select.POLLOUT | (select.POLLIN if self.may_read() else 0)
                poll.register(self.input, wanted)
            for number, client in self.clients.items():
                wants = select.POLLIN if len(self.unread) < MOST_UNREAD else 0
                poll.register(number, wants | (select.POLLOUT if client.unsent else 0))
            # Time counts only while somebody is slow or awaited, or once everything has been said.
            is_slow = any(client.unsent for client in self.clients.values())
            is_timed = self.waits or self.ended is not None or is_slow
            seconds = ENDING_SECONDS if self.is_ending else 1.0 if is_timed else None
            for number, events in poll.poll(None if seconds is None else int(seconds * 1000)):
                self.take(number, events)
            if self.is_ending:
                self.end_input()
            self.cut_off_deaf()
            if self.is_forsaken():
                return

    def is_done(self) -> bool:
        """Tell whether the container has said everything and everyone has read it."""
        if self.outputs or not self.has_begun:
            return False
        if self.ended is None:
            self.ended = time.monotonic()
            for client in self.clients.values():
                if client.is_listening:
                    client.send(b"x")
        if any(client.unsent for client in self.clients.values()):
            return time.monotonic() - self.ended > LINGER_SECONDS
        return not self.waits or time.monotonic() - self.ended > LINGER_SECONDS

    def is_forsaken(self) -> bool:
        """Tell whether the container was removed before anybody came, or is about to be heard."""
        if not self.waits or self.clients or os.path.exists(os.path.join(self.run, "attach")):
            return False
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        return not poll.poll(0)

    def may_read(self) -> bool:
        """Tell whether what the container writes may be read now."""
        if self.waits:
            return False
        return all(len(client.unsent) < MOST_UNSENT for client in self.clients.values())

    def take(self, number: int, events: int) -> None:
        """Handle one descriptor that something happened on."""
        if number == self.listener.fileno():
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.clients[connection.fileno()] = Client(connection)
        elif self.console is not None and number == self.console.fileno():
            self.take_terminal()
        elif number in self.clients:
            self.take_client(number, events)
        else:
            if number == self.input and events & select.POLLOUT:
                self.feed()
            if number in self.outputs and events & (select.POLLIN | select.POLLHUP):
                self.read(number)

    def take_terminal(self) -> None:
        """Take the terminal's master side from runc."""
        if self.console is None:
            return
        connection, _ = self.console.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        self.console.close()
        self.console = None
        for descriptor in descriptors:
            os.set_blocking(descriptor, False)
            self.input = descriptor
            self.outputs[descriptor] = b"1"
        self.has_begun = True
        if self.window is not None:
            self.resize(*self.window)

    def read(self, number: int) -> None:
        """Read what the container wrote: into its file, to every listener."""
        try:
            data = os.read(number, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal ends
                raise
            data = b""
        kind = self.outputs[number]
        if not data:
            del self.outputs[number]
            if number == self.input:
                self.input = -1
            os.close(number)
            return
        with suppress(OSError):  # a full disk must not stop the container
            os.write(self.files[0 if kind == b"1" else 1], data)
        for client in self.clients.values():
            if client.is_listening:
                client.send(kind, data)

    def feed(self) -> None:
        """Give the container what it was sent."""
        if self.input < 0:
            self.unread.clear()
            return
        if self.unread:
            try:
                done = os.write(self.input, self.unread)
            except BlockingIOError:
                return
            except OSError:
                done = len(self.unread)
            del self.unread[:done]
        if self.is_input_over and not self.unread and not self.is_tty:
            self.is_ending = True
            self.end_input()

    def end_input(self) -> None:
        """End the container's input, once it has taken all of it and is there to see the end.

        A FIFO forgets what is in it when nobody has it open, and whoever opens
        one that nobody has open for writing waits.
        """
        if self.input >= 0:
            if waiting_in(self.input):
                return
            os.close(self.input)
            self.input = -1
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            os.close(os.open(os.path.join(self.run, "stdin"), flags))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads: not yet, or not any more
                return
        self.is_ending = False

    def take_client(self, number: int, events: int) -> None:
        """Read from and write to somebody who is connected."""
        client = self.clients[number]
        try:
            if events & select.POLLOUT and client.unsent:
                done = client.connection.send(client.unsent)
                del client.unsent[:done]
                client.moved = time.monotonic()
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = client.connection.recv(CHUNK)
                if not data:
                    self.let_go(number)
                    return
                client.received += data
                self.take_frames(client)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self.let_go(number)

    def take_frames(self, client: Client) -> None:
        """Do what every whole frame says; raise ValueError for what is none."""
        while len(client.received) >= FRAME.size:
            kind, length = FRAME.unpack_from(client.received)
            if length > MOST_FRAME:
                raise ValueError("frame is too long")
            if len(client.received) < FRAME.size + length:
                return
            data = bytes(client.received[FRAME.size : FRAME.size + length])
            del client.received[: FRAME.size + length]
            if kind == b"l":
                client.is_listening = True
                self.waits = False
                if self.ended is not None:
                    client.send(b"x")
            elif kind == b"i" and not self.is_input_over and self.input >= 0:
                self.unread += data
                self.feed()
            elif kind == b"e" and self.input >= 0:
                if self.is_tty:
                    self.unread += END_OF_TRANSMISSION
                self.is_input_over = not self.is_tty
                self.feed()
            elif kind == b"w" and len(data) == WINDOW.size:
                self.resize(*WINDOW.unpack(data))

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size, now or once it is there."""
        self.window = (rows, columns)
        if self.is_tty and self.input >= 0:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            with suppress(OSError):
                fcntl.ioctl(self.input, termios.TIOCSWINSZ, size)

    def let_go(self, number: int) -> None:
        """Close a connection."""
        self.clients.pop(number).connection.close()

    def cut_off_deaf(self) -> None:
        """Close the connections of those who read nothing, so that the container can go on."""
        now = time.monotonic()
        for number, client in tuple(self.clients.items()):
            if len(client.unsent) >= MOST_UNSENT and now - client.moved > STALL_SECONDS:
                self.let_go(number)


def waiting_in(pipe: int) -> int:
    """Return how many bytes of a pipe nobody has read."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


def listen(run: str, name: str) -> socket.socket:
    """Listen on a unix socket in the run directory, however long its path is."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.close(directory)
    listener.listen(16)
    return listener


def open_file(path: str) -> int:
    """Open a file to append to; what can't be opened, or is a link, is thrown away."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def note(run: str) -> None:
    """Write who we are into the run directory, whole or not at all."""
    with open("/proc/self/stat") as file:
        text = file.read()
    identity = {
        "pid": os.getpid(),
        "start_time": int(text[text.rindex(")") + 2 :].split()[19]),
    }
    temporary = os.path.join(run, ".switchboard")
    with open(temporary, "w") as file:
        json.dump(identity, file)
    os.rename(temporary, os.path.join(run, "switchboard"))


def main(arguments: "list[str]") -> int:
    """Hold one container's input and output until it has ended."""
    run, kind, flow, out, err = arguments
    if os.fork():
        return 0
    os.setsid()
    os.chdir("/")
    note(run)
    board = Board(run, (open_file(out), open_file(err)), waits=flow == "wait")
    if kind == "pipes":
        board.open_pipes()
    else:
        rows, _, columns = kind.partition(":")[2].partition("x")
        board.open_console((int(rows or 0), int(columns or 0)))
    with suppress(OSError):
        os.write(1, b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    board.loop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
