"""Start the witness of a session, and tell it which session that is."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import structlog
from kazoo.protocol.states import KazooState

from phalanx.core.zookeeper.session import ZooKeeper
from phalanx.core.zookeeper.witness import Session, to_line

log = structlog.get_logger()

PROGRAM = Path(__file__).with_name("witness.py")
LEAVE_SECONDS = 1.0


class Witness:
    """A process that ends our session as soon as we are dead, while this is entered.

    Enter it before the session, so that whoever ends in good order has ended the session himself;
    where no server answered him then, the witness goes on to.
    A witness that dies is missed at most until the session's own timeout.
    """

    def __init__(self, session: ZooKeeper, *, program: str = sys.executable) -> None:
        """Watch over *session*; *program* is the interpreter to run."""
        self._session = session
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        try:
            # A session of its own: what kills our process group is what it is there for.
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns with the exec, soon
                (self._program, "-ISs", str(PROGRAM)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:  # no process or memory is left: the timeout has to do
            log.warning("witness_not_started", error=str(error))
        self._session.client.add_listener(self._note)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._session.client.remove_listener(self._note)
        process, self._process = self._process, None
        if process is None:
            return
        if self._session.is_over:
            self._tell(process, None)
        assert process.stdin is not None  # a pipe, as asked for
        with suppress(OSError):
            process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            if self._session.is_over:
                process.kill()
                process.wait()
            # else it still looks for a server that ends the session, and gives up by itself

    @property
    def pid(self) -> int | None:
        """Return the process id of the witness while there is one."""
        return None if self._process is None else self._process.pid

    def _note(self, state: str) -> None:
        """Tell the session that we have now; kazoo calls this in a thread of its own."""
        client, process = self._session.client, self._process
        if state != KazooState.CONNECTED or process is None or client.client_id is None:
            return
        id, password = client.client_id
        seconds = self._session.session_seconds
        self._tell(process, Session(id, password, int(seconds * 1000), client.hosts))

    def _tell(self, process: subprocess.Popen[bytes], session: Session | None) -> None:
        assert process.stdin is not None  # a pipe, as asked for
        try:
            process.stdin.write(to_line(session).encode())
            process.stdin.flush()
        except (OSError, ValueError) as error:  # it has died, or is closed already
            log.warning("witness_lost", error=str(error))
