"""Structured log lines on standard error: one JSON object, or one coloured line on a terminal."""

import logging
import sys
from pathlib import Path
from typing import IO, Any

import structlog

from phalanx.core.error import ConfigError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def check_level(level: str) -> None:
    """Raise ConfigError unless *level* is one of ``LEVELS``, in whatever case."""
    if level.lower() not in LEVELS:
        raise ConfigError(f"--log-level: {level!r}: is none of {', '.join(LEVELS)}")


class _Both:
    """Lines on standard error and in a file; with *is_quiet* in the file alone, but for errors."""

    def __init__(self, file: IO[str], *, is_quiet: bool) -> None:
        self._file = file
        self._is_quiet = is_quiet

    def write(self, text: str) -> None:
        """Write to both."""
        if not self._is_quiet or '"level": "error"' in text:
            sys.stderr.write(text)
        self._file.write(text)

    def flush(self) -> None:
        """Flush both."""
        sys.stderr.flush()
        self._file.flush()


def configure_log(
    daemon: str,
    *,
    level: str = "info",
    terminal: bool | None = None,
    file: Path | None = None,
    is_quiet: bool = False,
) -> None:
    """Send log lines of this process to standard error, each with its daemon's name.

    Lines are JSON unless standard error is a terminal (or *terminal* says so).
    With *file* they are appended to it too, as JSON; with *is_quiet* standard
    error gets errors alone. Raises ConfigError for an unknown level or a file
    that can't be written.
    """
    check_level(level)
    level = level.lower()
    out: Any = sys.stderr
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            out = _Both(file.open("a"), is_quiet=is_quiet)
        except OSError as error:
            raise ConfigError(f"--log-dir: {str(file)!r}: {error.strerror}") from error
    elif is_quiet:
        level = "error"
    pretty = (sys.stderr.isatty() if terminal is None else terminal) and file is None
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    )

    def add_daemon(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {"daemon": daemon, **event}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_daemon,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
