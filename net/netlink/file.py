"""Files and folders by the built-in module ``posix``: ``os`` on top of it takes 1 ms to load."""

import posix


def exists(path: str) -> bool:
    """Tell whether there is anything at a path."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def make_folders(path: str) -> None:
    """Make a folder and those above it, if they lack; raise OSError."""
    if exists(path):
        return
    above = path.rstrip("/").rpartition("/")[0]
    if above:
        make_folders(above)
    try:
        posix.mkdir(path)
    except FileExistsError:
        return


def names_in(folder: str) -> list[str]:
    """Return the names in a folder, none if there is no such folder; raise OSError."""
    try:
        return posix.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read(path: str) -> bytes:
    """Return what a file holds, nothing if it is gone; raise OSError."""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        chunks = [posix.read(descriptor, 1 << 16)]
        while len(chunks[-1]) == 1 << 16:
            chunks.append(posix.read(descriptor, 1 << 16))
        return b"".join(chunks)
    finally:
        posix.close(descriptor)


def write(path: str, raw: bytes, mode: int = 0o600) -> None:
    """Write a whole file; raise OSError, the path removed again, when it does not fit."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
    descriptor = posix.open(path, flags, mode)
    try:
        if posix.write(descriptor, raw) != len(raw):
            raise OSError(28, "No space left on device")
    except BaseException:
        posix.unlink(path)
        raise
    finally:
        posix.close(descriptor)


def overwrite(path: str, raw: bytes) -> None:
    """Write a file over what it held, made if it lacks; raise OSError.

    For what may be lost: where `write` and a rename have a file system put the
    content on the disk, which takes milliseconds, this leaves it the time it wants.
    """
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC
    descriptor = posix.open(path, flags, 0o644)
    try:
        posix.ftruncate(descriptor, posix.write(descriptor, raw))
    finally:
        posix.close(descriptor)


def lock_file(path: str) -> int:
    """Open a file to lock, made if it lacks; return its descriptor; raise OSError."""
    return posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)


def remove(path: str) -> None:
    """Remove a file; it doesn't have to be there."""
    try:
        posix.unlink(path)
    except FileNotFoundError:
        return
