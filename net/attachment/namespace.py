"""Network namespaces of threads."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from phalanx.core.error import NotFoundError
from phalanx.core.netns import enter


@contextmanager
def opened(paths: Sequence[str | Path]) -> Iterator[int]:
    """Open the first of *paths* that there is; raise NotFoundError when there is none."""
    descriptor = -1
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            break
        except OSError:
            continue
    if descriptor < 0:
        shown = repr(str(paths[-1])) if paths else "no path given"
        raise NotFoundError(f"network namespace: {shown}: there is none")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def inside(descriptor: int, home: int) -> Iterator[None]:
    """Let the calling thread be in another network namespace for a while.

    Raises NotFoundError when *descriptor* is no network namespace.
    """
    try:
        enter(descriptor)
    except OSError as error:
        raise NotFoundError(f"network namespace: {error}") from error
    try:
        yield
    finally:
        enter(home)
