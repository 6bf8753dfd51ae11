"""A small cluster, and policies drawn at random over it, for tests of isolation."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from hypothesis import strategies as st

from phalanx.net.isolation.evaluate import Packet
from phalanx.net.model.objects import (
    Action,
    Direction,
    Network,
    Policy,
    Task,
    TaskPhase,
    Tier,
    Traffic,
)
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.1.1")
DCOS = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
BLUE = Network(
    "blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450, True, IPv6Network("fd01:20::/64"), 80
)
RED = Network(
    "red", IPv4Network("10.21.0.0/16"), 24, 1026, 1450, False, IPv6Network("fd01:21::/64"), 80
)


def container(
    name: str, network: str, address: str, *labels: str, address6: str = "", app: str = ""
) -> Task:
    return Task(
        "marathon",
        name,
        name,
        "agent",
        NODE,
        TaskPhase.RUNNING,
        addresses=(IPv4Address(address),),
        networks=(network,),
        addresses6=(IPv6Address(address6),) if address6 else (),
        networks6=(network,) if address6 else (),
        discovery_name=app,
        labels=tuple((key, value) for key, _, value in (each.partition("=") for each in labels)),
    )


TASKS = (
    container("w1", "dcos", "9.0.1.2", "role=web", "env=prod", app="web.prod"),
    container("w2", "blue", "10.20.1.2", "role=web", address6="fd01:20::2", app="web.prod"),
    container("d1", "blue", "10.20.1.3", "role=db", "env=prod", address6="fd01:20::3"),
    container("d2", "red", "10.21.1.2", "role=db", address6="fd01:21::2"),
    container("p1", "red", "10.21.1.3"),
)
CLUSTER = View().changed([DCOS, BLUE, RED, *TASKS])

NAMES = ("any", "dcos", "blue", "red", "gone", "role=web", "role=db", "env=prod", "/prod/web")
PREFIXES = ("9.0.1.0/24", "9.0.0.0/7", "10.20.1.2", "10.20.0.0/15", "192.0.2.0/24", "0.0.0.0/0")
SELECTORS = st.sampled_from([*NAMES, *PREFIXES, "fd01:20::/63", "fd01:20::2", "=", "/"])
PORTS = st.lists(
    st.tuples(st.sampled_from([0, 1, 79, 80, 81, 443, 65535]), st.integers(0, 3)).map(
        lambda pair: (pair[0], min(pair[0] + pair[1], 65535))
    ),
    max_size=3,
).map(tuple)


@st.composite
def policies(draw: st.DrawFn, *, most: int = 6) -> list[Policy]:
    found = []
    for number in range(draw(st.integers(0, most))):
        traffic = draw(st.sampled_from(Traffic))
        found.append(
            Policy(
                f"p{number}",
                draw(SELECTORS),
                draw(SELECTORS),
                traffic,
                tier=draw(st.sampled_from(Tier)),
                action=draw(st.sampled_from(Action)),
                direction=draw(st.sampled_from(Direction)),
                ports=draw(PORTS) if traffic.has_ports else (),
            )
        )
    return found


ENDS4 = [str(a) for task in TASKS for a in task.addresses]
ENDS4 += ["9.0.1.77", "8.1.1.1", "10.20.9.9", "10.21.9.9", "192.0.2.9", "198.18.1.1"]
ENDS6 = [str(a) for task in TASKS for a in task.addresses6]
ENDS6 += ["fd01:20::99", "fd01:21::99", "2001:db8::1"]


def packets() -> list[Packet]:
    """Return a packet for each two ends of one family, protocol and some ports."""
    return [
        Packet(ip_address(source), ip_address(destination), protocol, port)
        for ends in (ENDS4, ENDS6)
        for source in ends
        for destination in ends
        if source != destination
        for protocol, port in (
            (6, 0), (6, 80), (6, 82), (6, 443), (6, 65535), (17, 80), (132, 81), (1, 0), (58, 0),
            (47, 0),
        )
    ]  # fmt: skip
