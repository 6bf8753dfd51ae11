"""IPVS under real connections, from the node and from containers."""

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from tests.guest.lb.ipvs_lab import (
    BRIDGE,
    BRIDGE6,
    DNS,
    FAR,
    FAR6,
    NODE,
    NODE6,
    OWN,
    PORT,
    WEB,
    WEB6,
    Lab,
    address_of,
    answering,
    ip,
    run,
    say,
    service,
    wait,
)

from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.leftover import leftovers_of_ipvs, leftovers_of_nftables
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol

ALL = service(b1=1, b2=1, b3=1)
PEER = "198.18.0.2"  # another node
BEYOND, BEYOND6 = "9.0.7.7", "fd00:9:7::7"


@pytest.mark.parametrize("place", ["node", "client", "b1", "far"])
def test_round_robin_takes_turns(lab: Lab, place: str) -> None:
    lab.put({WEB: ALL})

    assert lab.asked(place, WEB, 12) == {"b1": 4, "b2": 4, "b3": 4}


def test_weights_are_shares_of_open_connections(lab: Lab) -> None:
    lab.put({WEB: service(scheduler=Scheduler.WLC, b1=1, b2=2, b3=5)})
    opened = [lab.connect("client", WEB) for _ in range(24)]

    names = [say(each)[0] for each in opened]
    for each in opened:
        each.close()

    assert {name: names.count(name) for name in set(names)} == {"b1": 3, "b2": 6, "b3": 15}


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(service(scheduler=Scheduler.SH, b1=1, b2=1, b3=1), id="sh"),
        pytest.param(service(scheduler=Scheduler.MH, b1=1, b2=1, b3=1), id="mh"),
        pytest.param(service(affinity=300, b1=1, b2=1, b3=1), id="affinity"),
    ],
)
def test_source_keeps_its_backend_until_that_drains(lab: Lab, wanted: Service) -> None:
    lab.put({WEB: wanted})
    before = lab.asked("client", WEB, 8)
    [name] = before
    others = {each: 1 for each in ("b1", "b2", "b3") if each != name}

    drained = service(
        scheduler=wanted.scheduler, affinity=wanted.affinity_seconds, **{name: 0}, **others
    )
    lab.put({WEB: drained})
    after = lab.asked("client", WEB, 8)

    assert len(after) == 1
    assert name not in after


def test_drained_backend_keeps_connections_and_gets_no_new_ones(lab: Lab) -> None:
    lab.put({WEB: service(b1=1)})
    with lab.connect("client", WEB) as opened:
        say(opened)

        lab.put({WEB: service(b1=0, b2=1)})
        counts = lab.asked("client", WEB, 8)
        still = say(opened)
        lab.put({WEB: service(b1=0)})
        with pytest.raises(ConnectionRefusedError):
            lab.ask("client", WEB)
        at_last = say(opened)

    assert counts == {"b2": 8}
    assert still[0] == at_last[0] == "b1"


def test_backend_that_leaves_ends_its_connections_and_no_others(lab: Lab) -> None:
    lab.put({WEB: service(b1=1, b2=1)})
    opened = {say(each)[0]: each for each in [lab.connect("client", WEB) for _ in range(2)]}

    lab.put({WEB: service(b2=1)})

    with opened["b1"] as cut, opened["b2"] as kept:
        assert say(kept)[0] == "b2"
        with pytest.raises(ConnectionError):
            say(cut)


def test_udp_follows_when_its_backend_leaves(lab: Lab) -> None:
    lab.put({DNS: service(b1=1)})
    with lab.connect("client", DNS) as opened:
        before = say(opened)[0]
        lab.put({DNS: service(b1=0, b2=1)})
        draining = say(opened)[0]
        lab.put({DNS: service(b2=1)})
        after = say(opened)[0]

    assert (before, draining, after) == ("b1", "b1", "b2")


@pytest.mark.parametrize("place", ["node", "client", "far"])
@pytest.mark.parametrize("vip", [WEB, DNS, OWN], ids=["tcp", "udp", "own-address"])
def test_service_without_eligible_backend_refuses_at_once(lab: Lab, place: str, vip: Vip) -> None:
    lab.put({vip: service(b1=0)})
    # The kernel tells a process of its own that may not send a datagram so.
    is_own_datagram = place == "node" and vip.protocol is Protocol.UDP
    error = PermissionError if is_own_datagram else ConnectionRefusedError

    with pytest.raises(error):
        lab.ask(place, vip)


def test_leased_address_without_service_never_reaches_the_node(lab: Lab) -> None:
    lab.put({WEB: ALL})

    with answering(lab.path("node"), "node", 5050):
        direct = lab.ask("client", Vip(ip_address(NODE), 5050))
        for place in ("node", "client"):
            with pytest.raises(ConnectionRefusedError):
                lab.ask(place, Vip(ip_address("11.0.0.9"), 5050))

    assert direct[0] == "node"


@pytest.mark.parametrize("vip", [WEB, OWN], ids=["leased-address", "own-address"])
def test_only_a_hairpin_loses_its_source(lab: Lab, vip: Vip) -> None:
    lab.put({vip: service(b1=1)})

    seen = {place: lab.ask(place, vip)[1] for place in ("node", "client", "b1", "far")}

    assert seen == {"node": NODE, "client": BRIDGE, "b1": BRIDGE, "far": FAR}


def test_backend_on_the_host_network_is_reached(lab: Lab) -> None:
    lab.put({WEB: Service.of([Backend(ip_address(NODE), 31000)])})

    with answering(lab.path("node"), "node", 31000):
        assert lab.ask("node", WEB) == ("node", NODE)
        assert lab.ask("far", WEB) == ("node", FAR)
        assert lab.ask("client", WEB)[0] == "node"


@pytest.fixture
def beyond(lab: Lab) -> Iterator[str]:
    """Put a backend behind the tunnel, which knows the way to the node alone; yield its name."""
    there, node = lab.namespace("beyond"), lab.node
    run("ip", "netns", "add", there)
    try:
        ip(node, (f"link add phx-vxlan type veth peer name eth0 netns {there}",))
        ip(
            there,
            (
                "link set lo up",
                "link set eth0 up",
                f"address add {BEYOND}/32 dev eth0",
                f"address add {BEYOND6}/128 dev eth0 nodad",
                f"route add {NODE}/32 dev eth0",
                f"route add {NODE6}/128 dev eth0",
            ),
        )
        commands = (
            "link set phx-vxlan up",
            f"route add {BEYOND}/32 dev phx-vxlan src {NODE}",
            f"route add {BEYOND6}/128 dev phx-vxlan src {NODE6}",
        )
        ip(node, commands)
        [link] = json.loads(run("ip", "-n", node, "-j", "link", "show", "phx-vxlan"))
        # A node answers for its IPv6 address in no neighbour discovery but its link's own.
        ip(there, (f"neighbour add {NODE6} lladdr {link['address']} dev eth0",))
        with answering(lab.path("beyond"), "beyond"):
            yield "beyond"
    finally:
        run("ip", "netns", "delete", there)


def test_node_lends_its_address_to_clients_outside_for_a_backend_of_another(
    lab: Lab, beyond: str
) -> None:
    own6 = Vip(ip_address("fd77::1"), 80)
    ip(lab.node, (f"route replace local fd77::1/128 dev lo src {NODE6}",))
    far4, far6 = (Service.of([Backend(ip_address(each), PORT)]) for each in (BEYOND, BEYOND6))
    lab.put({WEB: far4, OWN: far4, WEB6: far6, own6: far6})

    seen = {vip: lab.ask("far", vip) for vip in (WEB, OWN, WEB6, own6)}
    from_node = lab.ask("node", WEB), lab.ask("node", WEB6)

    over4, over6 = (beyond, NODE), (beyond, NODE6)
    assert from_node == (over4, over6)
    assert seen == {WEB: over4, OWN: over4, WEB6: over6, own6: over6}


def test_node_lends_its_address_for_a_task_on_the_network_of_another(lab: Lab) -> None:
    there, node = lab.namespace("peer"), lab.node
    run("ip", "netns", "add", there)
    try:
        ip(node, (f"link add under0 type veth peer name eth0 netns {there}", "link set under0 up"))
        commands = ("link set eth0 up", f"address add {PEER}/32 dev eth0")
        ip(there, (*commands, f"route add {NODE}/32 dev eth0"))
        ip(node, (f"route add {PEER}/32 dev under0 src {NODE}",))
        with answering(lab.path("peer"), "peer"):
            on_host = Service.of([Backend(ip_address(PEER), PORT)])
            lab.put({WEB: on_host, OWN: on_host})

            seen = {vip: lab.ask("far", vip) for vip in (WEB, OWN)}

        assert seen == dict.fromkeys((WEB, OWN), ("peer", NODE))
    finally:
        run("ip", "netns", "delete", there)


def test_client_outside_keeps_its_address_at_a_backend_of_this_node(lab: Lab) -> None:
    lab.put({WEB: service(b1=1), WEB6: service(version=6, b1=1)})

    assert lab.ask("far", WEB) == ("b1", FAR)
    assert lab.ask("far", WEB6) == ("b1", FAR6)


def test_address_of_either_range_without_a_service_is_refused(lab: Lab) -> None:
    lab.put({WEB: service(b1=1)})

    for address in ("11.0.0.99", "fd01:c::99"):
        for place in ("node", "client"):
            with pytest.raises(ConnectionRefusedError):
                lab.connect(place, Vip(ip_address(address), 80)).close()


def test_change_without_a_read_sees_what_somebody_else_did(lab: Lab) -> None:
    lab.put({WEB: service(b1=1, b2=1), OWN: service(b1=1)})
    lab.inside("ipvsadm", "-D", "-t", f"{OWN.address}:{OWN.port}")
    lab.inside("ipvsadm", "-d", "-t", f"{WEB.address}:{WEB.port}", "-r", f"{address_of('b2')}:8080")
    after = {WEB: service(b1=1, b2=0, b3=1), OWN: service(b1=0, b2=1)}

    wait(lab.services.apply(Delta(after, frozenset())))

    assert wait(lab.services.read()) == after


def test_ipv6_balances_and_hairpins(lab: Lab) -> None:
    lab.put({WEB6: service(version=6, b1=1, b2=1, b3=1)})

    counts = lab.asked("client", WEB6, 6)
    lab.put({WEB6: service(version=6, b1=1)})
    seen = {place: lab.ask(place, WEB6)[1] for place in ("node", "client", "b1")}
    lab.put({WEB6: service(version=6, b1=0)})
    with pytest.raises(ConnectionRefusedError):
        lab.ask("client", WEB6)

    assert counts == {"b1": 2, "b2": 2, "b3": 2}
    assert seen == {"node": NODE6, "client": BRIDGE6, "b1": BRIDGE6}


def test_ipv6_affinity_is_of_one_address(lab: Lab) -> None:
    lab.put({WEB6: service(version=6, affinity=60, b1=1, b2=1, b3=1)})

    counts = lab.asked("client", WEB6, 6)

    assert len(counts) == 1


def test_restarted_plane_finds_all_as_it_was(lab: Lab) -> None:
    wanted = {
        WEB: ALL,
        OWN: service(scheduler=Scheduler.MH, affinity=30, b1=2, b2=0),
        WEB6: service(version=6, b1=1),
        DNS: service(b1=0),
    }
    lab.put(wanted)
    with lab.connect("client", WEB) as opened:
        before = say(opened)

        lab.restart()
        is_done = wait(Reconciler(lab.services, lambda: wanted).reconcile_once())
        held = wait(lab.services.read())

        assert say(opened) == before
    assert is_done
    assert held == wanted


def test_restarted_plane_removes_what_is_not_wanted_any_more(lab: Lab) -> None:
    lab.put({WEB: ALL, OWN: ALL, DNS: ALL})

    lab.restart()
    is_done = wait(Reconciler(lab.services, lambda: {WEB: ALL}).reconcile_once())

    assert is_done
    table = lab.inside("ipvsadm", "-Ln")
    assert str(WEB.address) in table
    assert str(OWN.address) not in table
    assert str(DNS.address) not in table


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("ipvsadm", "-C"), id="all-cleared"),
        pytest.param(("ipvsadm", "-D", "-t", "11.0.0.1:80"), id="service-deleted"),
        pytest.param(("ipvsadm", "-E", "-t", "11.0.0.1:80", "-s", "lc"), id="scheduler"),
        pytest.param(("ipvsadm", "-E", "-t", "11.0.0.1:80", "-s", "rr", "-p"), id="persistent"),
        pytest.param(
            ("ipvsadm", "-d", "-t", "11.0.0.1:80", "-r", "9.0.1.11:8080"), id="backend-deleted"
        ),
        pytest.param(
            ("ipvsadm", "-e", "-t", "11.0.0.1:80", "-r", "9.0.1.11:8080", "-m", "-w", "9"),
            id="weight",
        ),
        pytest.param(
            ("ipvsadm", "-a", "-t", "11.0.0.1:80", "-r", "9.0.1.99:8080", "-m"), id="backend-added"
        ),
        pytest.param(("ipvsadm", "-A", "-t", "11.9.9.9:80", "-s", "rr"), id="service-added"),
        pytest.param(("nft", "delete table inet phalanx_ipvs"), id="table-deleted"),
        pytest.param(("nft", "flush table inet phalanx_ipvs"), id="rules-flushed"),
        pytest.param(
            ("nft", "add element inet phalanx_ipvs refused4 { 11.0.0.1 . tcp . 80 }"), id="refused"
        ),
        pytest.param(("sysctl", "-qw", "net.ipv4.vs.conntrack=0"), id="setting"),
    ],
)
def test_damage_is_repaired(lab: Lab, damage: tuple[str, ...]) -> None:
    wanted = {WEB: ALL, OWN: service(b1=1)}
    loop = Reconciler(lab.services, lambda: wanted)
    wait(loop.reconcile_once())
    lab.inside(*damage)
    seen = wait(lab.services.read())

    is_repaired = wait(loop.reconcile_once())

    assert seen != wanted
    assert is_repaired
    assert wait(lab.services.read()) == wanted
    assert lab.asked("client", WEB, 6) == {"b1": 2, "b2": 2, "b3": 2}


def test_services_of_others_are_left_alone(lab: Lab) -> None:
    foreign = ("-t", "192.0.2.1:80")
    lab.inside("ipvsadm", "-A", *foreign, "-s", "lc")
    try:
        lab.put({WEB: ALL, OWN: ALL})
        lab.put({})
        wait(lab.services.clear())

        assert "192.0.2.1:80 lc" in lab.inside("ipvsadm", "-Ln")
    finally:
        lab.inside("ipvsadm", "-D", *foreign)


def test_change_of_data_plane_leaves_nothing_of_the_other(lab: Lab) -> None:
    wanted = {
        WEB: ALL,
        OWN: service(b1=0),
        WEB6: service(version=6, affinity=60, b1=1, b2=1),
        DNS: service(scheduler=Scheduler.SH, b1=1),
    }
    nftables = NftablesServices(lab.nft)
    try:
        wait(Reconciler(nftables, lambda: wanted).reconcile_once())
        lab.put(wanted)
        leftovers = Reconciler(leftovers_of_nftables(lab.nft), dict)
        assert wait(leftovers.reconcile_once())
        tables = lab.inside("nft", "list", "tables")
        by_ipvs = lab.asked("client", WEB, 6)

        wait(Reconciler(nftables, lambda: wanted).reconcile_once())
        back = Reconciler(leftovers_of_ipvs(lab.services), dict)
        assert wait(back.reconcile_once())
        by_nftables = lab.asked("client", WEB, 6)
        kept = [lab.asked("client", WEB6, 4) for _ in range(2)]

        assert tables.split() == ["table", "inet", "phalanx_ipvs"]
        assert by_ipvs.total() == by_nftables.total() == 6
        assert [len(each) for each in kept] == [1, 1]
        assert lab.inside("nft", "list", "tables").split() == ["table", "inet", "phalanx_lb"]
        assert "->" not in lab.inside("ipvsadm", "-Ln").split("RemoteAddress", 1)[1]
    finally:
        nftables.close()
        lab.inside("nft", "add table inet phalanx_lb; delete table inet phalanx_lb")


def test_traffic_is_counted_by_vip_and_backend(lab: Lab) -> None:
    lab.put({WEB: ALL})
    lab.asked("client", WEB, 6)

    # The kernel adds up every two seconds.
    end = time.monotonic() + 30
    while (counted := wait(lab.services.traffic())[WEB]).held.connections < 6:
        assert time.monotonic() < end

    # A backend that was there before, in another test, goes on counting where it stood.
    assert counted.held.connections == 6
    assert all(each.connections >= 2 for each in counted.destinations)
    assert all(each.bytes_in > 0 and each.bytes_out > 0 for each in counted.destinations)


def test_many_services_come_and_go_in_one_pass(lab: Lab) -> None:
    wanted = {
        Vip(ip_address("11.1.0.0") + number, 80): Service.of(
            Backend(address_of("b1") + each, PORT) for each in range(5)
        )
        for number in range(400)
    }
    lab.put(wanted)
    lab.put({})

    assert wait(lab.services.read()) == {}
