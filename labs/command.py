"""``phalanx lab``: a cluster on this machine, from the command line."""

import argparse
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from phalanx.core.error import ConfigError, PhalanxError
from phalanx.labs.exec import replace_this_process
from phalanx.labs.lab import UP_SECONDS, Lab
from phalanx.labs.progress import shown
from phalanx.labs.status import LabStatus, status_rows, status_to_json
from phalanx.labs.topology import Topology, spread
from phalanx.labs.topology_file import read_topology

# A table in a pipe or a file is not folded to a terminal that is not there.
PIPE_WIDTH = 200
TOOLS: Mapping[str, str] = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``phalanx lab``'s command line."""
    parser = argparse.ArgumentParser(
        prog="phalanx lab",
        description="Run a whole cluster on this machine, each node a network namespace.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        added.add_argument("--name", default="lab", help="name of the lab (default: lab)")
        return added

    up = command("up", "make a lab; return when agents are registered and planes in sync")
    up.add_argument("--masters", type=_count, help="number of masters (default: 1)")
    up.add_argument("--agents", type=_count, help="number of agents (default: 2)")
    up.add_argument("--zk", action="store_true", help="run ZooKeeper on the masters' nodes")
    up.add_argument("--topology", type=Path, metavar="FILE", help="read the topology from TOML")
    up.add_argument(
        "--timeout",
        type=_seconds,
        default=UP_SECONDS,
        metavar="SECONDS",
        help=f"give up after this long (default: {UP_SECONDS:g})",
    )
    up.add_argument(
        "--keep-on-failure", action="store_true", help="leave everything there when it fails"
    )
    command("down", "remove a lab and everything of it, whole or in pieces")
    status = command("status", "show what runs")
    status.add_argument("--json", action="store_true", help="as JSON, for scripts")
    run = command("exec", "run a command in a node's network, with its resolv.conf")
    run.add_argument("node")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD…")
    kill = command("kill", "kill a process of a node, or take the power from the node")
    kill.add_argument("node")
    kill.add_argument("process", nargs="?")
    kill.add_argument(
        "--signal", type=_signal, default=signal.SIGKILL, help="for one process (default: KILL)"
    )
    start = command("start", "start a process of a node, or all that do not run")
    start.add_argument("node")
    start.add_argument("process", nargs="?")
    command("partition", "let no packet pass to or from a node").add_argument("node")
    command("heal", "undo a partition").add_argument("node")
    readdress = command("readdress", "give an agent's node another address, as DHCP may")
    readdress.add_argument("node")
    readdress.add_argument("address", type=IPv4Address)
    demo = command("demo", "run the main job and show what it proved")
    demo.add_argument("--keep", action="store_true", help="leave the lab up afterwards")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time")
    return seconds


def _signal(text: str) -> signal.Signals:
    name = text.upper().removeprefix("SIG")
    try:
        return signal.Signals(int(text)) if text.isdecimal() else signal.Signals[f"SIG{name}"]
    except (KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no signal") from error


def main(arguments: Sequence[str]) -> int:
    """Run one ``phalanx lab`` command; return its exit status.

    0 done, 1 an error that is printed, 2 a command line or topology that can't be
    used, 130 interrupted; ``exec`` has the status of what it ran.
    """
    given = build_parser().parse_args(arguments)
    try:
        _check_machine()
        with _Interruptible():
            return COMMANDS[given.command](given)
    except ConfigError as error:
        print(f"phalanx lab: {error}", file=sys.stderr)
        return 2
    except PhalanxError as error:
        print(f"phalanx lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("phalanx lab: interrupted", file=sys.stderr)
        return 130


class _Interruptible:
    """Turn the first SIGTERM, SIGHUP or SIGINT into KeyboardInterrupt, and ignore the others.

    So a lab that is half made is removed, and the removal is not interrupted. What
    our caller ignores, as nohup does, stays ignored.
    """

    NUMBERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def __enter__(self) -> None:
        self._before = {
            number: signal.signal(number, self._interrupt)
            for number in self.NUMBERS
            if signal.getsignal(number) is not signal.SIG_IGN
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        for number in self.NUMBERS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise PhalanxError("a lab makes network namespaces, so it needs root: use sudo")
    lacking = [f"{tool} ({package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if lacking:
        raise PhalanxError(f"this machine lacks {', '.join(lacking)}: scripts/setup installs them")


def _topology(given: argparse.Namespace) -> Topology:
    if given.topology is None:
        return spread(
            masters=1 if given.masters is None else given.masters,
            agents=2 if given.agents is None else given.agents,
            zookeeper=given.zk,
        )
    if given.masters is not None or given.agents is not None or given.zk:
        raise ConfigError("--topology: says masters, agents and zookeeper itself")
    return read_topology(given.topology)


def _up(given: argparse.Namespace) -> int:
    topology = _topology(given)
    with shown() as progress:
        lab = Lab.up(
            topology,
            name=given.name,
            progress=progress,
            seconds=given.timeout,
            keep_on_failure=given.keep_on_failure,
        )
    print(look_around(lab))
    return 0


def _program() -> str:
    """Return how a user calls this program from where he is."""
    beside = Path(sys.executable).with_name("phalanx")
    if (found := shutil.which("phalanx")) and Path(found) == beside:
        return "phalanx"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def look_around(lab: Lab) -> str:
    """Return what a user of a fresh lab should know."""
    name = "" if lab.name == "lab" else f" --name {lab.name}"
    program = _program()
    nodes = [node.name for node in lab.topology.nodes]
    inside = (lab.topology.agents or lab.topology.nodes)[0].name
    return f"""\
lab {lab.name} is up: {" ".join(nodes)}
  master    {lab.master_url}
  marathon  {lab.marathon_url}
look around:
  {program} lab status{name}
  {program} lab exec{name} {inside} -- dig leader.mesos
  ip netns exec {lab.node(inside).netns} ip address
  curl {lab.marathon_url}/v2/apps
  tail -f {lab.directory}/*/log/*.log
  {program} lab down{name}"""


def _down(given: argparse.Namespace) -> int:
    Lab.remove(given.name)
    print(f"lab {given.name} is removed")
    return 0


def _status(given: argparse.Namespace) -> int:
    status = Lab.attach(given.name).status()
    if given.json:
        print(json.dumps(status_to_json(status), indent=1))
    else:
        _print_table(status)
    return 0


def _print_table(status: LabStatus) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "role", "address", "namespace", "processes"):
        table.add_column(heading)
    for row in status_rows(status):
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(f"lab {status.name}: master {status.master}, marathon {status.marathon}")
    console.print(table)


def _exec(given: argparse.Namespace) -> int:
    words = given.words[1:] if given.words[:1] == ["--"] else given.words
    if not words:
        raise ConfigError(f"exec {given.node}: -- CMD: is missing")
    replace_this_process(Lab.attach(given.name).node(given.node).command(words))
    return 0


def _kill(given: argparse.Namespace) -> int:
    if given.process is None and given.signal is not signal.SIGKILL:
        raise ConfigError(f"--signal: {given.signal.name}: is for one process, not for a node")
    Lab.attach(given.name).kill(given.node, given.process, number=given.signal)
    what = f"{given.node}: {given.process}: sent {given.signal.name}"
    print(what if given.process else f"{given.node}: is without power")
    return 0


def _start(given: argparse.Namespace) -> int:
    started = Lab.attach(given.name).start(given.node, given.process)
    print(f"{given.node}: started {', '.join(started) or 'the node; it runs nothing'}")
    return 0


def _partition(given: argparse.Namespace) -> int:
    Lab.attach(given.name).partition(given.node)
    print(f"{given.node}: nothing passes to or from it")
    return 0


def _heal(given: argparse.Namespace) -> int:
    Lab.attach(given.name).heal(given.node)
    print(f"{given.node}: traffic passes again")
    return 0


def _readdress(given: argparse.Namespace) -> int:
    Lab.attach(given.name).readdress(given.node, given.address)
    print(f"{given.node}: has {given.address}; its processes know when they start again")
    return 0


def _demo(given: argparse.Namespace) -> int:
    run: Callable[..., int] = import_module("phalanx.labs.demo").run
    return run(keep=given.keep, name=given.name)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "exec": _exec,
    "kill": _kill,
    "start": _start,
    "partition": _partition,
    "heal": _heal,
    "readdress": _readdress,
    "demo": _demo,
}
