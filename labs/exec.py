"""The tools that a lab runs: ip, bridge, nft, nsenter, and the processes of its nodes."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from phalanx.core.error import DataplaneError
from phalanx.labs.place import NETNS

# The last thing it does in its own name is to say its number; exec keeps that number.
_SPAWN = 'exec 3>&1 >>"$1" 2>&1; shift; echo $$ >&3; exec 3>&-; exec "$@"'

# Every file of the directory stands in for the one of the same name in /etc.
_DRESS = """
for file in "$1"/*; do
    if [ -e "/etc/${file##*/}" ]; then mount --bind "$file" "/etc/${file##*/}" || exit 125
    else echo "lab: this machine has no /etc/${file##*/} to stand in for" >&2; fi
done
shift
exec "$@"
"""


def _run(command: Sequence[str], script: str | None, *, table: str) -> str:
    done = subprocess.run(command, input=script or "", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise DataplaneError("; ".join(words), table=table)
    return done.stdout


def ip_batch(lines: Sequence[str], *, netns: str | None = None) -> None:
    """Run a script of iproute2's ip, here or in a namespace; raise DataplaneError."""
    where = ["-n", netns] if netns else []
    script = "".join(f"{line}\n" for line in lines)
    _run(["ip", *where, "-batch", "-"], script, table=f"ip {netns or ''}".strip())


def nft(script: str, *, netns: str) -> None:
    """Run a script of nft in a namespace; raise DataplaneError."""
    _run(["nsenter", f"--net={NETNS / netns}", "nft", "-f", "-"], script, table=f"nft {netns}")


def set_port(netns: str, port: str, state: int) -> None:
    """Set the state of a bridge's port; raise DataplaneError."""
    command = ["bridge", "-n", netns, "link", "set", "dev", port, "state", str(state)]
    _run(command, None, table=f"bridge {netns}")


def read_ports(netns: str) -> Mapping[str, str]:
    """Return the state of every bridge port in a namespace, by the port's name."""
    output = _run(["bridge", "-n", netns, "-j", "link", "show"], None, table=f"bridge {netns}")
    return {link["ifname"]: link["state"] for link in json.loads(output or "[]")}


def spawn(
    command: Sequence[str], *, netns: str | None, log: Path, environ: Mapping[str, str]
) -> int:
    """Start a process that outlives this one, in a session of its own; return its number.

    It is in the namespace called *netns* (None: ours), but sees this machine's
    mounts, so cgroups stay visible. Its output is added to *log*.
    """
    inside = ["nsenter", f"--net={NETNS / netns}", "--"] if netns else []
    done = subprocess.run(
        ["setsid", "--fork", "sh", "-c", _SPAWN, "sh", str(log), *inside, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        env=dict(environ),
        check=False,
    )
    if not done.stdout.strip().isdecimal():
        raise DataplaneError(done.stderr.strip() or "did not start", table=f"spawn {command[0]}")
    return int(done.stdout)


def dressed(etc: Path, command: Sequence[str]) -> Sequence[str]:
    """Return *command* wrapped so that files of *etc* stand in for those of /etc.

    It gets a mount namespace of its own: what it mounts, nobody else sees.
    """
    return ["unshare", "--mount", "--", "sh", "-c", _DRESS, "lab", str(etc), *command]


def node_command(netns: str, etc: Path, command: Sequence[str]) -> Sequence[str]:
    """Return *command* wrapped so that it runs in a node's network, with its resolv.conf.

    The wrapped command keeps terminal, process group and exit status.
    """
    return ["nsenter", f"--net={NETNS / netns}", "--", *dressed(etc, command)]


def replace_this_process(command: Sequence[str]) -> None:
    """Become *command*; does not return."""
    os.execvp(command[0], list(command))


def run(
    command: Sequence[str], *, timeout: float | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end, whatever its status, and return status and output."""
    return subprocess.run(
        command, input=stdin or "", capture_output=True, text=True, timeout=timeout, check=False
    )
