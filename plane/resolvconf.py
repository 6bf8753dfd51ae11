"""Keeps a node's resolv.conf leading to its own resolver."""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from phalanx.core.config import HostPort
from phalanx.dns.resolvconf import ResolvConf, render_resolv_conf

log = structlog.get_logger()

LOOK_SECONDS = 10.0  # after which what another program wrote over it is put right
IN_THE_WAY = (errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES)  # of a file mounted by itself


class ResolvConfKeeper:
    """Writes the file whenever it says something else.

    *listening* returns our addresses that answer, *upstreams* those of others,
    as they are now.
    """

    def __init__(
        self,
        path: Path,
        wanted: ResolvConf,
        *,
        listening: Callable[[], Sequence[str]],
        upstreams: Callable[[], Sequence[HostPort]],
    ) -> None:
        self._path = path
        self._wanted = wanted
        self._listening = listening
        self._upstreams = upstreams
        self._problem = ""

    async def run(self) -> None:
        """Look at the file every 10 s until cancelled."""
        while True:
            self.keep()
            await asyncio.sleep(LOOK_SECONDS)

    def keep(self) -> bool:
        """Write the file if it says something else; tell whether it was written.

        A file that can't be written is logged once, and tried again.
        """
        text = render_resolv_conf(self._wanted, self._listening(), self._upstreams())
        try:
            if self._path.is_file() and self._path.read_bytes() == text.encode():
                return False
            replace(self._path, text)
        except OSError as error:
            if str(error) != self._problem:
                log.warning("resolv_conf_not_written", path=str(self._path), error=str(error))
            self._problem = str(error)
            return False
        self._problem = ""
        log.info("resolv_conf_written", path=str(self._path))
        return True


def replace(path: Path, text: str) -> None:
    """Replace a file, or a link's target, by one rename; write one in place that is mounted."""
    target = path.resolve()
    beside = target.with_name(f".{target.name}.phalanx")
    try:
        beside.write_text(text)
        beside.chmod(0o644)
        os.replace(beside, target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno not in IN_THE_WAY:
            raise
        target.write_text(text)
