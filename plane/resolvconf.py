"""Keeps a node's resolv.conf leading to its own resolver, and gives it back at the end."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import structlog

from phalanx.core.config import HostPort
from phalanx.core.files import write_whole
from phalanx.dns.resolvconf import (
    ResolvConf,
    remembered_upstreams,
    render_resolv_conf,
    render_without_us,
)

log = structlog.get_logger()

LOOK_SECONDS = 10.0  # after which what another program wrote over it is put right
IN_THE_WAY = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES)  # of a file mounted by itself


class ResolvConfKeeper:
    """Writes the file whenever it says something else.

    *listening* returns our addresses that answer, *upstreams* those of others,
    as they are now. What others wrote is kept in *before*, and stands in the
    file again after ``give_back``. Where *sockets_stay* a service manager keeps
    our sockets: then one of our addresses stays in it, before the upstreams.
    """

    def __init__(
        self,
        path: Path,
        wanted: ResolvConf,
        *,
        before: Path,
        listening: Callable[[], Sequence[str]],
        upstreams: Callable[[], Sequence[HostPort]],
        sockets_stay: bool = False,
    ) -> None:
        self._path = path
        self._wanted = wanted
        self._before = before
        self._listening = listening
        self._upstreams = upstreams
        self._sockets_stay = sockets_stay
        self._problem = ""

    async def run(self) -> None:
        """Look at the file every 10 s until cancelled."""
        while True:
            self.keep()
            await asyncio.sleep(LOOK_SECONDS)

    def leave(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Give the file back at a wanted end; after a failure a new process follows."""
        if kind is None or issubclass(kind, asyncio.CancelledError):
            self.give_back()

    def keep(self) -> bool:
        """Write the file if it says something else; tell whether it was written.

        A file that can't be written is logged once, and tried again.
        """
        text = render_resolv_conf(self._wanted, self._listening(), self._upstreams())
        try:
            found = self._read()
            if found == text:
                return False
            if found is None or remembered_upstreams(found) is None:
                self._remember(found)
            replace(self._path, text)
        except OSError as error:
            if str(error) != self._problem:
                log.warning("resolv_conf_not_written", path=str(self._path), error=str(error))
            self._problem = str(error)
            return False
        self._problem = ""
        log.info("resolv_conf_written", path=str(self._path))
        return True

    def give_back(self) -> None:
        """Write what was there before us, unless another program wrote something since."""
        try:
            found = self._read()
            if found is None or remembered_upstreams(found) is None:
                return
            replace(self._path, self._last_words())
        except OSError as error:
            log.warning("resolv_conf_not_given_back", path=str(self._path), error=str(error))
            return
        log.info("resolv_conf_given_back", path=str(self._path))

    def _remember(self, text: str | None) -> None:
        """Keep what another wrote; where that fails or is nothing, nothing older is kept either."""
        if text is not None:
            try:
                write_whole(self._before, _encoded(text), mode=0o644)
            except OSError as error:
                log.warning("resolv_conf_not_remembered", path=str(self._before), error=str(error))
            else:
                return
        with suppress(OSError):
            self._before.unlink()

    def _last_words(self) -> str:
        upstreams = self._upstreams()
        if self._sockets_stay:
            return render_without_us(self._wanted, self._listening(), upstreams)
        with suppress(OSError):
            return _decoded(self._before)
        return render_resolv_conf(self._wanted, (), upstreams)

    def _read(self) -> str | None:
        return _decoded(self._path) if self._path.is_file() else None


def replace(path: Path, text: str) -> None:
    """Replace a file, or a link's target, by one rename; write one in place that is mounted.

    Raises OSError, also where its directory is missing.
    """
    target = path.resolve()
    target.parent.stat()
    try:
        write_whole(target, _encoded(text), mode=0o644)
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
        target.write_bytes(_encoded(text))


def _decoded(path: Path) -> str:
    """Return what a file says, in whatever encoding: it goes back as it came."""
    return path.read_bytes().decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
