"""What a VIP costs on the way: rate, latency and CPU beside direct connections and HAProxy."""

import asyncio
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from threading import Thread
from uuid import uuid4

from claim import Bound, Figure
from lb_cpu import connection_cpu
from lb_table import reconciled, table

from phalanx.core.netns import call_in
from phalanx.labs.wait import wait_until
from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.nft.library import Nft

BENCH = Path(__file__).parent.parent / ".bench"
LIBRARIES = BENCH / "usr/lib/x86_64-linux-gnu"
BACKENDS = {"b1": "9.0.1.11", "b2": "9.0.1.12"}
NODE, CLIENT = "9.0.2.1", "9.0.2.20"
WEB = Vip(IPv4Address("11.0.0.1"), 80)
ECHO = Vip(IPv4Address("11.0.0.2"), 7)
SHORT = Vip(IPv4Address("11.0.0.3"), 80)
SHORT_PORT, SHORT_DIRECT_PORT = 8000, 8001
HAPROXY_PORT = 8888
# Not the port behind the VIP: connections of one source port to one backend by both ways would
# make the kernel look for another source port, which neither way needs alone.
DIRECT_PORT = 81
MANY = 10_000
CONNECTIONS = 32
SECONDS = 4
TURNS = 3  # of each contender, one after the other
SAMPLES = 4000
Ends = tuple[str, int]


def measure() -> Sequence[Figure]:
    """Run nginx in two containers and race the ways to it, in turns."""
    for program in ("nginx", "wrk", "haproxy"):
        if not program_path(program):
            raise SystemExit(f"{program} is not here: make setup-bench")
    with ExitStack() as stack:
        node = stack.enter_context(_cluster())
        stack.enter_context(_servers(node))
        services = stack.enter_context(_balancer(node))
        behind = {
            WEB: Service.of(Backend(IPv4Address(each), 80) for each in BACKENDS.values()),
            ECHO: Service.of([Backend(IPv4Address(BACKENDS["b1"]), 7)]),
            SHORT: Service.of([Backend(IPv4Address(BACKENDS["b1"]), SHORT_PORT)]),
        }
        reconciled(services, behind)
        rates = _race(node)
        few = _latencies(node)
        cpu = _cpu(node)
        reconciled(services, behind | table(MANY))
        many = _latencies(node)
        cpu_of_many = _cpu(node)
    return [*_figures(rates, few, many), *_cpu_figures(cpu, cpu_of_many)]


def _figures(
    rates: dict[str, dict[str, tuple[float, float]]],
    few: dict[str, float],
    many: dict[str, float],
) -> Sequence[Figure]:
    kept, new = rates["kept"], rates["new"]
    least, most = Bound.RATIO_AT_LEAST, Bound.RATIO_AT_MOST
    at_most = Bound.OURS_AT_MOST
    return [
        Figure("kept connections; direct", "1/s", kept["vip"][0], least, 0.85, kept["direct"][0]),
        Figure("new connections; direct", "1/s", new["vip"][0], least, 0.9, new["direct"][0]),
        Figure("new connections; HAProxy", "1/s", new["vip"][0], least, 1.5, new["haproxy"][0]),
        Figure(
            "CPU a new connection takes beyond a direct one; HAProxy",
            "µs",
            max(new["vip"][1] - new["direct"][1], 0.0),
            most,
            0.5,
            max(new["haproxy"][1] - new["direct"][1], 0.0),
        ),
        Figure("added to a round trip", "µs", few["kept"], at_most, 2.0),
        Figure("added to the first packet", "µs", few["new"], at_most, 5.0),
        Figure(f"added to a round trip, {MANY:,} VIPs", "µs", many["kept"], at_most, 2.0),
        Figure(f"added to the first packet, {MANY:,} VIPs", "µs", many["new"], at_most, 5.0),
    ]


def _cpu_figures(few: dict[str, float], many: dict[str, float]) -> Sequence[Figure]:
    most = Bound.RATIO_AT_MOST
    what = "CPU of a new connection, both ends"
    return [
        Figure(f"{what}; direct", "µs", few["vip"], most, 1 / 0.9, few["direct"]),
        Figure(f"{what}, {MANY:,} VIPs; direct", "µs", many["vip"], most, 1 / 0.9, many["direct"]),
    ]


def _cpu(node: str) -> dict[str, float]:
    ways = {
        "direct": (SHORT_DIRECT_PORT, (BACKENDS["b1"], SHORT_DIRECT_PORT)),
        "vip": (SHORT_PORT, (str(SHORT.address), SHORT.port)),
    }
    return connection_cpu(_path(f"{node}-client"), _path(f"{node}-b1"), ways)


def program_path(name: str) -> str | None:
    """Return where a program is: on this machine, or unpacked by ``make setup-bench``."""
    places = os.pathsep.join(["/usr/sbin", "/usr/bin", *map(str, BENCH.glob("usr/*bin"))])
    return shutil.which(name, path=places)


@contextmanager
def _cluster() -> Iterator[str]:
    """Make a node, two containers on its bridge, and a client behind another link."""
    node = f"phxbench-{uuid4().hex[:6]}"
    names = [*BACKENDS, "client"]
    commands = [
        "link set lo up",
        "link add phx-1024 type bridge",
        "address add 9.0.1.1/24 dev phx-1024",
        "link set phx-1024 up",
    ]
    for name in names:
        commands.append(f"link add {name} type veth peer name eth0 netns {node}-{name}")
        commands.append(f"link set {name} up")
        if name in BACKENDS:
            commands.append(f"link set {name} master phx-1024")
    commands.append(f"address add {NODE}/24 dev client")
    commands.append(f"route add local 11.0.0.0/8 dev lo src {NODE}")
    with ExitStack() as stack:
        for each in (node, *(f"{node}-{name}" for name in names)):
            _run("ip", "netns", "add", each)
            stack.callback(_run, "ip", "netns", "delete", each)
        _batch(node, commands)
        for name in names:
            address, way = (BACKENDS[name], "9.0.1.1") if name in BACKENDS else (CLIENT, NODE)
            wires = [f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up"]
            _batch(f"{node}-{name}", [*wires, f"route add default via {way}"])
        _run("ip", "netns", "exec", node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield node


@contextmanager
def _servers(node: str) -> Iterator[None]:
    """Run nginx in both containers, an echo in the first, and HAProxy on the node."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nginx = place / "nginx.conf"
        nginx.write_text(
            f"daemon off; worker_processes 1; pid {place}/nginx-PID; error_log stderr crit;\n"
            "events { worker_connections 4096; }\n"
            "http { access_log off; keepalive_requests 1000000; "
            f"client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; "
            f"fastcgi_temp_path {place}/fast; uwsgi_temp_path {place}/uwsgi; "
            f"scgi_temp_path {place}/scgi;\n"
            f"server {{ listen 80 backlog=4096; listen {DIRECT_PORT} backlog=4096;\n"
            "location / { return 200 'hello'; } } }\n"
        )
        haproxy = place / "haproxy.cfg"
        servers = "".join(f" server {name} {at}:80\n" for name, at in BACKENDS.items())
        haproxy.write_text(
            "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n"
            " timeout client 30s\n timeout server 30s\n"
            f"frontend web\n bind {NODE}:{HAPROXY_PORT}\n default_backend web\n"
            f"backend web\n balance roundrobin\n{servers}"
        )
        for name in BACKENDS:
            own = place / f"{name}.conf"
            own.write_text(nginx.read_text().replace("PID", name))
            # Its prefix holds the log that it opens before it has read its configuration.
            words = ("nginx", "-p", str(place), "-e", "stderr", "-c", str(own))
            stack.enter_context(_running(f"{node}-{name}", *words))
        stack.enter_context(_running(node, "haproxy", "-db", "-f", str(haproxy)))
        listening = call_in(_path(f"{node}-b1"), lambda: socket.create_server(("", 7), backlog=999))
        stack.callback(listening.close)
        stack.callback(_quietly, lambda: listening.shutdown(socket.SHUT_RDWR))
        Thread(target=_quietly, args=(lambda: _echo(listening),), daemon=True).start()
        for at in ((BACKENDS["b1"], 80), (BACKENDS["b2"], 80), (NODE, HAPROXY_PORT)):
            if not wait_until(partial(_answers, node, at), seconds=10.0):
                raise SystemExit(f"nobody answers at {at}")
        yield


@contextmanager
def _balancer(node: str) -> Iterator[NftablesServices]:
    nft = Nft(netns=_path(node))
    services = NftablesServices(nft, flows=Flows(netns=_path(node)))
    try:
        yield services
    finally:
        services.close()
        nft.close()


def _race(node: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the median rate, and CPU µs a request, of each way, over kept and new connections."""
    # Two backends share two cores with their client: direct connections go to both, too.
    ways = {
        "direct": [f"http://{backend}:{DIRECT_PORT}/" for backend in BACKENDS.values()],
        "vip": [f"http://{WEB.address}/"] * len(BACKENDS),
        "haproxy": [f"http://{NODE}:{HAPROXY_PORT}/"] * len(BACKENDS),
    }
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for _ in range(TURNS):
        for kind, header in (("kept", ()), ("new", ("-H", "Connection: close"))):
            for way, urls in ways.items():
                result = _wrk(node, urls, header)
                found.setdefault(kind, {}).setdefault(way, []).append(result)
    return {
        kind: {
            way: (median(rate for rate, _ in each), median(cpu for _, cpu in each))
            for way, each in by_way.items()
        }
        for kind, by_way in found.items()
    }


def _wrk(node: str, urls: Sequence[str], header: Sequence[str]) -> tuple[float, float]:
    """Return requests a second, and CPU µs a request, of one wrk for each URL, all at once."""
    wrk = (str(program_path("wrk")), "-t1", f"-c{CONNECTIONS // len(urls)}", f"-d{SECONDS}s")
    commands = " & ".join(shlex.join((*wrk, *header, url)) for url in urls)
    before = _busy_seconds()
    text = _inside(f"{node}-client", "sh", "-c", f"{commands} & wait", capture=True)
    busy = _busy_seconds() - before
    rates = [float(rate) for rate in re.findall(r"Requests/sec:\s+([0-9.]+)", text)]
    counts = [int(count) for count in re.findall(r"([0-9]+) requests in", text)]
    lost = "Socket errors" in text and "Connection: close" not in header
    if lost or len(rates) != len(urls):
        raise SystemExit(text)
    return sum(rates), busy / sum(counts) * 1e6


def _busy_seconds() -> float:
    """Return the CPU time of the whole machine, interrupts with it."""
    words = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    idle = words[3] + words[4]
    return (sum(words) - idle) / os.sysconf("SC_CLK_TCK")


def _latencies(node: str) -> dict[str, float]:
    """Return the µs that the VIP adds to a round trip and to a connect, in turns with direct."""
    direct: Ends = (BACKENDS["b1"], 7)
    vip: Ends = (str(ECHO.address), ECHO.port)

    def work() -> dict[str, float]:
        taken: dict[tuple[str, Ends], list[float]] = {}
        with socket.create_connection(direct) as one, socket.create_connection(vip) as two:
            for end in (one, two):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(SAMPLES):
                for at, end in ((direct, one), (vip, two)):
                    began = time.perf_counter()
                    end.sendall(b"?")
                    end.recv(1)
                    taken.setdefault(("kept", at), []).append(time.perf_counter() - began)
        for _ in range(SAMPLES):
            for at in (direct, vip):
                began = time.perf_counter()
                end = socket.create_connection(at)
                taken.setdefault(("new", at), []).append(time.perf_counter() - began)
                end.close()
        return {
            kind: (median(taken[kind, vip]) - median(taken[kind, direct])) * 1e6
            for kind in ("kept", "new")
        }

    return call_in(_path(f"{node}-client"), work)


def _echo(listening: socket.socket) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(100):
            writer.write(some)
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, sock=listening)
        async with server:
            await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def _running(namespace: str, program: str, *words: str) -> Iterator[None]:
    command = _command(namespace, str(program_path(program)), *words)
    process = subprocess.Popen(command, start_new_session=True, env=_environment())
    try:
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(node: str, at: Ends) -> bool:
    def ask() -> bool:
        try:
            socket.create_connection(at, timeout=1.0).close()
        except OSError:
            return False
        return True

    return call_in(_path(f"{node}-client"), ask)


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except (OSError, RuntimeError, asyncio.CancelledError):
        return


def _path(namespace: str) -> Path:
    return Path("/run/netns") / namespace


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": str(LIBRARIES)}


def _command(namespace: str, *words: str) -> Sequence[str]:
    return ("nsenter", f"--net={_path(namespace)}", *words)


def _inside(namespace: str, *words: str, capture: bool = False) -> str:
    done = subprocess.run(
        _command(namespace, *words), check=True, capture_output=capture, text=True,
        env=_environment(),
    )  # fmt: skip
    return done.stdout or ""


def _batch(namespace: str, commands: Sequence[str]) -> None:
    text = "\n".join(commands) + "\n"
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=text, text=True, check=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
