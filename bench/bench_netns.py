"""Network namespaces of benchmarks, and commands in them."""

import os
import subprocess
from contextlib import ExitStack


def made_netns(stack: ExitStack, short: str) -> str:
    """Return the name of a namespace with lo up, which goes with *stack*."""
    name = f"phxbench-{os.getpid()}-{short}"
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "add", name], check=True)
    stack.callback(
        subprocess.run, ["ip", "netns", "delete", name], check=False, capture_output=True
    )
    run_in(name, "ip", "link", "set", "lo", "up")
    return name


def run_in(netns: str, *command: str, stdin: str | None = None) -> str:
    """Return what a command prints in a namespace; end when it fails."""
    done = subprocess.run(
        ["ip", "netns", "exec", netns, *command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
