"""Structured log lines on standard error: one JSON object, or one coloured line on a terminal."""

import logging
import sys

import structlog

from phalanx.core.error import ConfigError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def check_level(level: str) -> None:
    """Raise ConfigError unless *level* is one of ``LEVELS``."""
    if level not in LEVELS:
        raise ConfigError(f"--log-level: {level!r}: is none of {', '.join(LEVELS)}")


def configure_log(daemon: str, *, level: str = "info", terminal: bool | None = None) -> None:
    """Send log lines of this process to standard error, each with its daemon's name.

    Lines are JSON unless standard error is a terminal (or *terminal* says so).
    Raises ConfigError for an unknown level.
    """
    check_level(level)
    pretty = sys.stderr.isatty() if terminal is None else terminal
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
