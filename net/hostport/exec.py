"""Run a program, by the built-in modules alone."""

import posix


def talk(
    path: str,
    arguments: list[str],
    environ: dict[str, str],
    raw: bytes,
    *,
    quiet: bool = False,
    with_errors: bool = False,
) -> tuple[bytes, int]:
    """Run a program with *raw* as its input; return its output and exit status.

    What it says on standard error goes to ours, unless it is to be *quiet*;
    *with_errors* it is part of the output.
    """
    feed = posix.memfd_create("input")
    posix.write(feed, raw)
    posix.lseek(feed, 0, 0)
    reader, writer = posix.pipe()
    moves: list[tuple[object, ...]] = [
        (posix.POSIX_SPAWN_DUP2, feed, 0),
        (posix.POSIX_SPAWN_DUP2, writer, 1),
    ]
    if quiet:
        moves.append((posix.POSIX_SPAWN_OPEN, 2, "/dev/null", posix.O_WRONLY, 0))
    if with_errors:
        moves.append((posix.POSIX_SPAWN_DUP2, writer, 2))
    process = posix.posix_spawn(path, arguments, environ, file_actions=moves)
    posix.close(writer)
    posix.close(feed)
    chunks = []
    while chunk := posix.read(reader, 65536):
        chunks.append(chunk)
    posix.close(reader)
    _, status = posix.waitpid(process, 0)
    return b"".join(chunks), posix.waitstatus_to_exitcode(status)


def program(name: str) -> str:
    """Return the path of an administrator's program, "" when there is none."""
    for folder in ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"):
        if posix.access(path := f"{folder}/{name}", posix.X_OK):
            return path
    return ""


def nft(script: str) -> int:
    """Run a script of nft's; return its exit status, 127 when there is no nft."""
    path = program("nft")
    return talk(path, ["nft", "-f", "-"], {}, script.encode())[1] if path else 127


def nft_says(script: str) -> str:
    """Run a script of nft's; return what it says against it, "" when it was carried out."""
    if not (path := program("nft")):
        return "there is no nft"
    output, status = talk(path, ["nft", "-f", "-"], {}, script.encode(), with_errors=True)
    words = " ".join(output.decode(errors="replace").split())
    return (words or f"status {status}") if status else ""
