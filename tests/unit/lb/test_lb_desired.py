"""desired_services is pure, so its tests are tables: a View in, services out."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from phalanx.lb.desired import desired_services
from phalanx.lb.service import Backend, Scheduler, Service, Vip
from phalanx.net.model.objects import (
    Framework,
    HostPort,
    Liveness,
    Network,
    Node,
    Object,
    Protocol,
    Task,
    TaskPhase,
    TaskPort,
    VipLease,
)
from phalanx.net.model.view import View

ON_A, ON_B = IPv4Address("198.18.0.11"), IPv4Address("198.18.0.12")
WEB = Vip(IPv4Address("11.225.37.143"), 80)
LABELS = (("VIP_0", "/web:80"),)
PORT = TaskPort(number=8080, labels=LABELS)
FACTS: tuple[Object, ...] = (
    Node(address=ON_A, hostname="a1", agent_id="A"),
    Node(address=ON_B, hostname="a2", agent_id="B"),
    Framework(id="f", name="marathon"),
    Network(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=24, vni=1024, mtu=1450),
    VipLease(name="web.marathon", address=IPv4Address("11.225.37.143")),
)


def view(*objects: Object) -> View:
    return View().changed((*FACTS, *objects))


def task(number: int, **changes: Any) -> Task:
    fields: dict[str, Any] = {
        "framework_id": "f",
        "id": f"t{number}",
        "name": "web",
        "agent_id": "A",
        "node": ON_A,
        "phase": TaskPhase.RUNNING,
        "addresses": (container(number),),
        "networks": ("dcos",),
        "ports": (PORT,),
    }
    return Task(**fields | changes)


def container(number: int) -> IPv4Address:
    return IPv4Address("9.0.1.0") + number


def backend(number: int, weight: int = 1) -> Backend:
    return Backend(container(number), 8080, weight)


def service(*backends: Backend) -> dict[Vip, Service]:
    return {WEB: Service(backends)}


def test_tasks_of_a_name_are_one_service() -> None:
    assert desired_services(view(task(2), task(3, node=ON_B))) == service(backend(2), backend(3))


def test_named_vip_without_a_lease_has_no_service() -> None:
    unleased = view(task(2)).changed((), [("vip", "web.marathon")])

    assert desired_services(unleased) == {}


def test_framework_not_known_yet_has_no_named_service() -> None:
    unknown = view(task(2)).changed((), [("framework", "f")])

    assert desired_services(unknown) == {}


@pytest.mark.parametrize(
    "address", [str(ON_B), "9.200.0.1", "198.51.100.1", "127.0.0.1", "224.0.0.1", "0.0.0.0"]
)
def test_address_in_use_cannot_be_taken(address: str) -> None:
    labels = (("VIP_0", f"{address}:5050"), *LABELS)
    greedy = task(2, ports=(TaskPort(number=8080, labels=labels),))

    assert desired_services(view(greedy)) == service(backend(2))


def test_address_vip_needs_no_lease() -> None:
    own = task(2, ports=(TaskPort(number=8080, labels=(("VIP_0", "1.2.3.4:443"),)),))

    assert desired_services(view(own)) == {Vip(IPv4Address("1.2.3.4"), 443): Service((backend(2),))}


def test_port_of_both_protocols_is_two_services() -> None:
    both = task(2, ports=(TaskPort(number=8080, protocol="tcp,udp", labels=LABELS),))

    assert desired_services(view(both)) == {
        WEB: Service((backend(2),)),
        Vip(WEB.address, 80, Protocol.UDP): Service((backend(2),)),
    }


def test_named_and_address_vip_of_one_address_are_one_service() -> None:
    own = TaskPort(number=8080, labels=(("VIP_0", f"{WEB.address}:80"),))

    assert desired_services(view(task(2), task(3, ports=(own,)))) == service(backend(2), backend(3))


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        pytest.param({}, 1, id="running"),
        pytest.param({"healthy": True}, 1, id="healthy"),
        pytest.param({"healthy": False}, 0, id="unhealthy"),
        pytest.param({"is_checked": True}, 0, id="not-yet-checked"),
        pytest.param({"is_checked": True, "healthy": True}, 1, id="checked-and-healthy"),
        pytest.param({"is_checked": True, "healthy": False}, 0, id="checked-and-unhealthy"),
        pytest.param({"phase": TaskPhase.KILLING}, 0, id="killing"),
        pytest.param({"phase": TaskPhase.UNREACHABLE}, 0, id="unreachable"),
    ],
)
def test_weight_follows_phase_and_health(changes: dict[str, Any], weight: int) -> None:
    services = desired_services(view(task(2, **changes), task(3)))

    assert services == service(backend(2, weight), backend(3))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"phase": TaskPhase.PREPARING}, id="preparing"),
        pytest.param({"addresses": ()}, id="no-address-yet"),
    ],
)
def test_vip_of_tasks_out_of_reach_refuses_until_one_is_in_reach(changes: dict[str, Any]) -> None:
    assert desired_services(view(task(2, **changes))) == service()
    assert desired_services(view(task(2, **changes), task(3))) == service(backend(3))


def test_preparing_task_has_no_service_at_an_address_in_use() -> None:
    labels = (("VIP_0", f"{ON_B}:5050"),)
    greedy = task(2, phase=TaskPhase.PREPARING, ports=(TaskPort(number=8080, labels=labels),))

    assert desired_services(view(greedy)) == {}


@pytest.mark.parametrize("liveness", [Liveness.SUSPECT, Liveness.UNREACHABLE])
def test_backend_on_a_silent_node_is_drained(liveness: Liveness) -> None:
    silent = Node(address=ON_B, hostname="a2", liveness=liveness)

    services = desired_services(view(silent, task(2), task(3, node=ON_B)))

    assert services == service(backend(2), backend(3, 0))


def test_backend_on_a_node_that_is_not_in_the_view_is_drained() -> None:
    stray = task(3, node=IPv4Address("198.18.0.99"))

    assert desired_services(view(task(2), stray)) == service(backend(2), backend(3, 0))


def test_service_whose_nodes_are_all_silent_keeps_its_backends() -> None:
    silent = [Node(address=node, hostname="", liveness=Liveness.SUSPECT) for node in (ON_A, ON_B)]
    unhealthy = task(4, healthy=False)
    unreachable = task(5, phase=TaskPhase.UNREACHABLE)

    services = desired_services(view(*silent, task(2), task(3, node=ON_B), unhealthy, unreachable))

    assert services == service(backend(2), backend(3), backend(4, 0), backend(5))


def test_unhealthy_backend_in_sight_keeps_the_silent_ones_drained() -> None:
    silent = Node(address=ON_B, hostname="a2", liveness=Liveness.SUSPECT)

    services = desired_services(view(silent, task(2, healthy=False), task(3, node=ON_B)))

    assert services == service(backend(2, 0), backend(3, 0))


MAPPED = (HostPort(host_port=31000, container_port=8080),)
HOST_SCOPE = (*LABELS, ("network-scope", "host"))


@pytest.mark.parametrize(
    ("changes", "here", "elsewhere"),
    [
        pytest.param(
            {"networks": (), "addresses": (ON_A,)},
            (ON_A, 8080),
            (ON_A, 8080),
            id="host-network",
        ),
        pytest.param({}, (container(2), 8080), (container(2), 8080), id="virtual-network"),
        pytest.param(
            {"host_ports": MAPPED},
            (container(2), 8080),
            (container(2), 8080),
            id="virtual-network-with-mapping",
        ),
        pytest.param(
            {"host_ports": MAPPED, "networks": ("bridge",)},
            (container(2), 8080),
            (ON_A, 31000),
            id="local-network-with-mapping",
        ),
        pytest.param(
            {"host_ports": MAPPED, "networks": ("bridge",), "addresses": ()},
            (ON_A, 31000),
            (ON_A, 31000),
            id="mapping-without-container-address",
        ),
        pytest.param(
            {
                "host_ports": (HostPort(host_port=31000, container_port=8080, protocol="udp"),),
                "networks": ("bridge",),
            },
            (container(2), 8080),
            (container(2), 8080),
            id="mapping-of-the-other-protocol",
        ),
        pytest.param(
            {"host_ports": MAPPED, "ports": (TaskPort(number=31000, labels=HOST_SCOPE),)},
            (container(2), 8080),
            (container(2), 8080),
            id="virtual-network-with-port-of-the-node",
        ),
        pytest.param(
            {
                "host_ports": MAPPED,
                "networks": ("bridge",),
                "ports": (TaskPort(number=31000, labels=HOST_SCOPE),),
            },
            (container(2), 8080),
            (ON_A, 31000),
            id="host-scope",
        ),
        pytest.param(
            {"ports": (TaskPort(number=31000, labels=HOST_SCOPE),)},
            (ON_A, 31000),
            (ON_A, 31000),
            id="host-scope-without-mapping",
        ),
        pytest.param(
            {"ports": (TaskPort(number=8080, labels=(*LABELS, ("network-scope", "odd"))),)},
            (container(2), 8080),
            (container(2), 8080),
            id="scope-not-known",
        ),
        pytest.param(
            {
                "addresses": (IPv4Address("172.17.0.2"), container(2)),
                "networks": ("bridge", "dcos"),
            },
            (container(2), 8080),
            (container(2), 8080),
            id="several-networks",
        ),
    ],
)
def test_backend_is_where_connections_can_reach_it(
    changes: dict[str, Any], here: tuple[IPv4Address, int], elsewhere: tuple[IPv4Address, int]
) -> None:
    facts = view(task(2, **changes))

    assert desired_services(facts, node=ON_A) == service(Backend(*here))
    assert desired_services(facts, node=ON_B) == service(Backend(*elsewhere))


def test_two_tasks_at_one_endpoint_are_one_backend_with_the_greater_weight() -> None:
    leaving = task(3, addresses=(container(2),), phase=TaskPhase.KILLING)

    assert desired_services(view(leaving, task(2))) == service(backend(2))


def test_malformed_label_harms_no_sibling() -> None:
    labels = (("VIP_0", "nonsense"), *LABELS)

    services = desired_services(view(task(2, ports=(TaskPort(number=8080, labels=labels),))))

    assert services == service(backend(2))


SIX = IPv6Address("fd01:c::cb8:74fe:906b:dee")
DUAL: tuple[Object, ...] = (
    Network("dcos6", None, 0, 1025, 1450, True, IPv6Network("fd01:b::/64"), 80),
    VipLease("web.marathon", IPv4Address("11.225.37.143"), SIX),
)


def six(number: int) -> IPv6Address:
    return IPv6Address("fd01:b::1:0") + number


def dual(number: int, **changes: Any) -> Task:
    return task(number, **{"addresses6": (six(number),), "networks6": ("dcos6",)} | changes)


def test_named_vip_has_an_address_of_each_family_that_a_backend_has() -> None:
    only4 = task(3)
    only6 = dual(4, addresses=(), networks=())

    services = desired_services(view(*DUAL, dual(2), only4, only6))

    assert services == {
        WEB: Service((backend(2), backend(3))),
        Vip(SIX, 80): Service((Backend(six(2), 8080), Backend(six(4), 8080))),
    }


def test_name_whose_family_is_not_known_refuses_by_ipv4() -> None:
    preparing = dual(2, phase=TaskPhase.PREPARING)
    only6 = dual(4, addresses=(), networks=())

    assert desired_services(view(*DUAL, preparing)) == service()
    assert desired_services(view(*DUAL, preparing, only6)).keys() == {Vip(SIX, 80)}


@pytest.mark.parametrize(
    ("vip", "has4", "has6"),
    [
        pytest.param("/web:80", True, True, id="named"),
        pytest.param("1.2.3.4:80", True, False, id="ipv4"),
        pytest.param("fd01:f::1:80", False, True, id="ipv6"),
        pytest.param("[fd01:f::1]:80", False, True, id="ipv6-in-brackets"),
    ],
)
def test_backend_is_of_the_family_of_its_vip(vip: str, has4: bool, has6: bool) -> None:
    # Reference dcos-net §1.9: the matrix of backend families.
    port = TaskPort(number=8080, labels=(("VIP_0", vip),))

    services = desired_services(view(*DUAL, dual(2, ports=(port,))))

    held = {each.address for service in services.values() for each in service.backends}
    assert held == {*([container(2)] if has4 else []), *([six(2)] if has6 else [])}
    assert all(
        each.address.version == vip.address.version
        for vip, service in services.items()
        for each in service.backends
    )


def test_task_on_the_host_network_is_no_backend_of_ipv6() -> None:
    on_host = task(2, networks=(), addresses=(ON_A,))

    assert desired_services(view(*DUAL, on_host)).keys() == {WEB}


@pytest.mark.parametrize("kind", ["host-network", "mapped", "host-scope"])
@pytest.mark.parametrize(("protocol", "is_served"), [("udp", False), ("tcp", True)])
def test_no_vip_leads_to_the_tunnel_of_a_node(kind: str, protocol: str, is_served: bool) -> None:
    labels = HOST_SCOPE if kind == "host-scope" else LABELS
    number = 8080 if kind == "mapped" else 64000
    at_bridge = {"networks": ("bridge",), "host_ports": (HostPort(64000, 8080, "udp,tcp"),)}
    kinds: dict[str, dict[str, Any]] = {
        "host-network": {"networks": (), "addresses": (ON_A,)},
        "mapped": at_bridge,
        "host-scope": at_bridge,
    }
    port = TaskPort(number=number, protocol=protocol, labels=labels)

    [service] = desired_services(view(task(2, ports=(port,), **kinds[kind]))).values()

    assert service.is_refused is not is_served
    assert [each.endpoint.port for each in service.backends] == ([64000] if is_served else [])


def test_mapped_port_of_a_node_is_the_containers_by_either_family() -> None:
    mapped = dual(2, host_ports=MAPPED, ports=(TaskPort(number=31000, labels=HOST_SCOPE),))

    services = desired_services(view(*DUAL, mapped))

    assert services == {
        WEB: Service((backend(2),)),
        Vip(SIX, 80): Service((Backend(six(2), 8080),)),
    }


@pytest.mark.parametrize(
    "address", ["fd01:b::77", "fd01:d::c633:6401", "::1", "fe80::1", "ff02::1", "::ffff:1.2.3.4"]
)
def test_ipv6_address_in_use_can_not_be_taken(address: str) -> None:
    port = TaskPort(number=8080, labels=(("VIP_0", f"[{address}]:80"),))

    assert desired_services(view(*DUAL, dual(2, ports=(port,)))) == {}


def test_port_names_the_network_of_its_backend() -> None:
    green = Network("green", IPv4Network("10.2.0.0/16"), 24, 1026, 1450)
    there = {
        "addresses": (container(2), IPv4Address("10.2.0.5")),
        "networks": ("dcos", "green"),
    }
    labels = (*LABELS, ("network-scope", "container"), ("network-name", "green"))

    named = desired_services(view(green, task(2, **there, ports=(TaskPort(8080, labels=labels),))))
    first = desired_services(view(green, task(2, **there)))

    assert named == service(Backend(IPv4Address("10.2.0.5"), 8080))
    assert first == service(backend(2))


def test_labels_choose_scheduler_affinity_and_weight() -> None:
    chosen = (*LABELS, ("LB_SCHEDULER", "mh"), ("LB_AFFINITY", "60"), ("LB_WEIGHT", "3"))
    heavy = task(2, ports=(TaskPort(number=8080, labels=chosen),))
    drained = task(4, ports=(TaskPort(number=8080, labels=chosen),), healthy=False)

    services = desired_services(view(heavy, task(3), drained))

    wanted = (backend(2, 3), backend(3), backend(4, 0))
    assert services == {WEB: Service(wanted, scheduler=Scheduler.MH, affinity_seconds=60)}


def test_vip_of_the_tasks_own_label_leads_to_the_port_of_the_node() -> None:
    old = {"labels": (("vip_port0", "tcp://web:80"),), "port_resources": ((31000, 31001),)}

    on_host = task(2, networks=(), addresses=(ON_A,), ports=(), **old)
    mapped = task(3, node=ON_B, networks=("bridge",), ports=(), host_ports=MAPPED, **old)

    assert desired_services(view(on_host, mapped), node=ON_B) == service(
        backend(3), Backend(ON_A, 31000)
    )
