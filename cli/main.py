"""The ``phalanx`` command: one word chooses a daemon or a tool, the rest is its own."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from phalanx.core.error import PhalanxError

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line; its module is imported only when it is chosen."""

    module: str
    about: str


COMMANDS: Mapping[str, Command] = {
    "master": Command("phalanx.master.app", "run a master: offers, agents, the network registry"),
    "agent": Command("phalanx.agent.app", "run an agent: containers with their own addresses"),
    "plane": Command("phalanx.plane.app", "run a node's plane: DNS, load balancer, overlay, walls"),
    "marathon": Command("phalanx.marathon.app", "run Marathon: apps kept running"),
    "lab": Command("phalanx.labs.command", "run a cluster on this machine, in network namespaces"),
    "app": Command("phalanx.cli.app", "deploy, scale, restart and look into apps on Marathon"),
    "deployment": Command("phalanx.cli.deployment", "list and watch Marathon's deployments"),
    "network": Command("phalanx.cli.network", "list, create and delete virtual networks"),
    "policy": Command(
        "phalanx.cli.policy", "list, add, remove and apply what may pass between networks"
    ),
    "vip": Command("phalanx.cli.vip", "list and explain virtual IPs on this node"),
    "trace": Command("phalanx.cli.trace", "who decides about a packet between two ends, and why"),
    "resolve": Command("phalanx.cli.resolve", "what a name leads to on this node, and why"),
    "cni": Command("phalanx.cli.cni", "install the CNI plugins"),
}


def usage() -> str:
    """Return what ``phalanx --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {word:{width}}  {command.about}" for word, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: phalanx COMMAND [ARGUMENTS…]",
            "",
            "Containers with their own IPs, names, virtual IPs and walls between networks.",
            "",
            "commands:",
            *lines,
            "",
            "phalanx COMMAND --help says more about each.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first word names; return its exit status.

    0 done, 1 an error that is printed, 2 a command line or configuration that
    can't be used, 130 interrupted, 141 nobody reads what it prints.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    command = COMMANDS.get(words[0])
    if command is None:
        print(f"phalanx: {words[0]!r} is no command; see phalanx --help", file=sys.stderr)
        return 2
    try:
        run: Main = import_module(command.module).main
        status = run(words[1:])
        sys.stdout.flush()
        return status
    except PhalanxError as error:
        print(f"phalanx {words[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read what we print has gone; Python would say so once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
