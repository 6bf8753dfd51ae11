"""Show what a lab is waiting for: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.markup import escape


class Progress(Protocol):
    """Whoever wants to hear how far a lab is."""

    def say(self, text: str) -> None:
        """Hear of something that is done or begun."""
        ...

    def waiting(self, reasons: Mapping[str, str]) -> None:
        """Hear what is still waited for, and why; nothing when all is there."""
        ...


class Silent:
    """A Progress that shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def waiting(self, reasons: Mapping[str, str]) -> None:
        """Show nothing."""


class Lines:
    """A Progress of plain lines, each with the time since it began."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line."""
        seconds = time.monotonic() - self._begin
        self._output.write(f"{seconds:5.1f} s  {text}\n")
        self._output.flush()

    def waiting(self, reasons: Mapping[str, str]) -> None:
        """Print nothing: what is waited for shows when it is there."""


class Terminal:
    """A Progress of plain lines above one live line that says what is waited for."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self.status = self._console.status("starting")
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        seconds = time.monotonic() - self._begin
        self._console.print(f"{seconds:5.1f} s  {text}", markup=False)

    def waiting(self, reasons: Mapping[str, str]) -> None:
        """Change the live line."""
        text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        room = max(self._console.width - 4, 20)
        self.status.update(escape(text[:room] or "done"))


@contextmanager
def shown() -> Iterator[Progress]:
    """Yield a Progress that suits standard error while the context lasts."""
    if not sys.stderr.isatty():
        yield Lines(sys.stderr)
        return
    terminal = Terminal()
    with terminal.status:
        yield terminal
