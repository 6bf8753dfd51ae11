"""phalanx-bridge and phalanx-ipam beside the reference plugins: same input, same outcome."""

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.netns.cni.host import Host, Json


def config(host: Host, main: str, leaser: str, /, **options: Any) -> Json:
    more: Json = {"ranges": [[{"subnet": "10.71.0.0/24"}]]}
    more = {**more, **options.pop("ipam", {})}
    return {
        "cniVersion": "1.0.0",
        "name": "testnet",
        "type": main,
        "bridge": "phxtestbr",
        "ipam": {"type": leaser, "dataDir": str(host.leases), **more},
        **options,
    }


def shape(result: Json) -> Json:
    """Return a result without what is drawn anew each time."""
    links = result.get("interfaces", [])
    return {
        **{key: value for key, value in result.items() if key != "dns" or value},
        "interfaces": [
            {
                "name": "veth" if index == 1 else link["name"],
                "sandbox": bool(link.get("sandbox")),
                "mac": len(link["mac"]),
            }
            for index, link in enumerate(links)
        ],
    }


def inside(host: Host, ns: str) -> Json:
    """Return what a container has: addresses and routes, but for what is drawn anew."""
    [link] = json.loads(host.run("ip", "-j", "addr", "show", "eth0", ns=ns))
    routes = [
        (route["dst"], route.get("gateway"), route.get("metric"))
        for family in ("-4", "-6")
        for route in json.loads(host.run("ip", "-j", family, "route", ns=ns))
    ]
    return {
        "addresses": sorted(
            (a["local"], a["prefixlen"], a["scope"], a.get("broadcast"))
            for a in link["addr_info"]
            if not a["local"].startswith("fe80")
        ),
        "mtu": link["mtu"],
        "state": link["operstate"],
        "routes": sorted(map(str, routes)),
    }


def node(host: Host) -> Json:
    """Return what the bridge and its port are like."""
    [link] = json.loads(host.run("ip", "-j", "-d", "addr", "show", "phxtestbr"))
    ports = json.loads(host.run("ip", "-j", "-d", "link", "show", "master", "phxtestbr"))
    return {
        "addresses": sorted(
            (a["local"], a["prefixlen"])
            for a in link["addr_info"]
            if not a["local"].startswith("fe80")
        ),
        "mtu": link["mtu"],
        "promiscuous": link["promiscuity"] - len([p for p in ports if p["promiscuity"] > 1]),
        "ports": [
            (p["mtu"], p["linkinfo"]["info_slave_data"]["hairpin"], p["operstate"]) for p in ports
        ],
    }


CASES: dict[str, Json] = {
    "layer 2": {"ipam": {}},
    "plain": {},
    "gateway": {"isGateway": True},
    "default gateway": {"isDefaultGateway": True},
    "mtu": {"isGateway": True, "mtu": 1400},
    "hairpin": {"isGateway": True, "hairpinMode": True},
    "promiscuous": {"isGateway": True, "promiscMode": True},
    "routes": {
        "isGateway": True,
        "ipam": {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.71.0.9"}]},
    },
    "range": {"ipam": {"ranges": [[{"subnet": "10.71.0.0/24", "rangeStart": "10.71.0.50"}]]}},
    "given gateway": {
        "isGateway": True,
        "ipam": {"ranges": [[{"subnet": "10.71.0.0/24", "gateway": "10.71.0.254"}]]},
    },
    "two families": {
        "isDefaultGateway": True,
        "ipam": {"ranges": [[{"subnet": "10.71.0.0/24"}], [{"subnet": "fd00:71::/64"}]]},
    },
    "asked for": {"runtimeConfig": {"ips": ["10.71.0.77"]}},
    "asked for by args": {"args": {"cni": {"ips": ["10.71.0.78"]}}},
    "ranges of the runtime": {"runtimeConfig": {"ipRanges": [[{"subnet": "10.72.0.0/24"}]]}},
    "old version": {"cniVersion": "0.2.0", "isDefaultGateway": True},
    "0.4.0": {"cniVersion": "0.4.0", "isDefaultGateway": True},
    "0.3.1": {"cniVersion": "0.3.1", "isGateway": True},
}


@pytest.mark.parametrize("case", CASES)
def test_same_outcome_as_reference(host: Host, case: str, tmp_path: Any) -> None:
    outcomes = []
    for types in (("bridge", "host-local"), ("phalanx-bridge", "phalanx-ipam")):
        other = host.other(tmp_path / types[0])
        options = dict(CASES[case])
        settings = config(other, *types, **options)
        if case == "layer 2":
            del settings["ipam"]
        ns = other.netns()
        result = other.chain("ADD", [settings], ns)
        outcomes.append((shape(result), inside(other, ns), node(other), other.held("testnet")))
        if settings["cniVersion"] not in ("0.2.0", "0.3.1") and case != "layer 2":
            other.chain("CHECK", [settings], ns, previous=result)
        other.chain("DEL", [settings], ns, previous=result)
        other.chain("DEL", [settings], ns, previous=result)
        assert other.held("testnet") == {}
        assert "eth0" not in other.run("ip", "link", ns=ns)

    for reference, ours in zip(*outcomes, strict=True):
        assert ours == reference


@pytest.mark.parametrize(
    ("bridge", "ipam"),
    [("phalanx-bridge", "host-local"), ("bridge", "phalanx-ipam")],
)
def test_delegation_both_ways(host: Host, bridge: str, ipam: str) -> None:
    ns = host.netns()
    settings = config(host, bridge, ipam, isDefaultGateway=True)

    result = host.chain("ADD", [settings], ns)
    host.run("ping", "-c1", "-w10", "10.71.0.1", ns=ns)
    host.chain("CHECK", [settings], ns, previous=result)
    held = host.held("testnet")
    host.chain("DEL", [settings], ns, previous=result)

    assert held == {"10.71.0.2": "c1\r\neth0"}
    assert host.held("testnet") == {}


def test_both_ipam_plugins_take_turns_on_one_directory(host: Host) -> None:
    owners = []
    for number, ipam in enumerate(("host-local", "phalanx-ipam", "host-local", "phalanx-ipam")):
        settings = config(host, "phalanx-bridge", ipam)
        host.chain("ADD", [settings], host.netns(), f"c{number}")
        owners.append(f"c{number}\r\neth0")

    assert host.held("testnet") == {
        f"10.71.0.{number + 2}": owner for number, owner in enumerate(owners)
    }


def test_failed_add_leaves_nothing(host: Host) -> None:
    ns = host.netns()
    for broken in (
        {"ipam": {"routes": [{"dst": "10.5.0.0/16", "gw": "203.0.113.1"}]}},
        {"runtimeConfig": {"ips": ["10.71.0.1"]}},
        {"ipam": {"ranges": [[{"subnet": "10.71.0.0/24"}]], "resolvConf": "/nowhere"}},
    ):
        answer = host.call("ADD", config(host, "phalanx-bridge", "phalanx-ipam", **broken), ns)

        assert answer.status == 1, broken
        assert host.held("testnet") == {}
        assert "eth0" not in host.run("ip", "link", ns=ns)
        assert host.run("ip", "-o", "link", "show", "master", "phxtestbr") == ""


def test_second_add_is_refused_and_spares_the_first(host: Host) -> None:
    ns = host.netns()
    settings = config(host, "phalanx-bridge", "phalanx-ipam", isGateway=True)
    result = host.chain("ADD", [settings], ns)

    again = host.call("ADD", settings, ns)

    assert again.status == 1
    assert again.output["code"] == 101
    host.chain("CHECK", [settings], ns, previous=result)


def test_delete_without_namespace(host: Host) -> None:
    ns = host.netns()
    settings = config(host, "phalanx-bridge", "phalanx-ipam", isGateway=True, ipMasq=True)
    host.chain("ADD", [settings], ns)
    host.run("ip", "netns", "delete", ns)

    for environ in ({}, {"CNI_NETNS": ""}):
        assert host.call("DEL", settings, ns, **environ).status == 0

    assert host.held("testnet") == {}
    assert host.elements() == []


def test_check_sees_each_difference(host: Host) -> None:
    ns = host.netns()
    settings = config(host, "phalanx-bridge", "phalanx-ipam", isDefaultGateway=True, ipMasq=True)
    result = host.chain("ADD", [settings], ns)
    veth = result["interfaces"][1]["name"]
    for ns_of, break_it, mend_it, word in (
        (ns, "ip route del default", "ip route add default via 10.71.0.1", "route to 0.0.0.0/0"),
        ("", f"ip link set {veth} nomaster", f"ip link set {veth} master phxtestbr", "is not on"),
        ("", "nft flush set inet phalanx_cni masked4", "", "masquerade"),
    ):
        host.run(*break_it.split(), ns=ns_of)

        answer = host.call("CHECK", {**settings, "prevResult": result}, ns)

        assert answer.output["code"] == 102
        assert word in answer.output["msg"]
        if mend_it:
            host.run(*mend_it.split(), ns=ns_of)


def test_gc_removes_all_but_the_valid(host: Host) -> None:
    settings = config(host, "phalanx-bridge", "phalanx-ipam", isGateway=True, ipMasq=True)
    settings["cniVersion"] = "1.1.0"
    spaces = {f"c{number}": host.netns() for number in range(3)}
    for container, ns in spaces.items():
        host.chain("ADD", [settings], ns, container)
    valid = [{"containerID": "c1", "ifname": "eth0"}]

    host.call("GC", {**settings, "cni.dev/valid-attachments": valid}, "", "").result  # noqa: B018

    assert host.held("testnet") == {"10.71.0.3": "c1\r\neth0"}
    assert host.run("ip", "-o", "link", "show", "master", "phxtestbr").count("\n") == 1
    assert [each for each in host.elements() if each.startswith("masked4")] == [
        next(each for each in host.elements() if "10.71.0.3" in each)
    ]


def test_gc_spares_a_valid_container_whose_name_is_too_long_for_its_link(host: Host) -> None:
    kept, gone = host.netns(), host.netns()
    name, long = "n" * 100, "c" * 180  # both together are longer than a link's alias
    settings = config(host, "phalanx-bridge", "phalanx-ipam", name=name, isGateway=True)
    settings["cniVersion"] = "1.1.0"
    host.chain("ADD", [settings], kept, long)
    host.chain("ADD", [settings], gone, f"{long}-gone")

    valid = {"cni.dev/valid-attachments": [{"containerID": long, "ifname": "eth0"}]}
    assert host.call("GC", {**settings, **valid}, kept).status == 0

    host.run("ping", "-c1", "-W2", "10.71.0.1", ns=kept)
    assert "eth0" not in host.run("ip", "link", ns=gone)
    assert host.held(name).keys() == {"10.71.0.2"}


def test_gc_spares_the_limits_of_a_valid_container_of_a_long_name(host: Host) -> None:
    name, long = "n" * 100, "c" * 180
    main = config(host, "phalanx-bridge", "phalanx-ipam", name=name)
    limit = {**main, "type": "phalanx-bandwidth", "egressRate": 16_000, "egressBurst": 16_000}
    plugins: list[Json] = [{**each, "cniVersion": "1.1.0"} for each in (main, limit)]
    result = host.chain("ADD", plugins, host.netns(), long)
    ifb = result["interfaces"][3]["name"]

    for valid in ([{"containerID": long, "ifname": "eth0"}], []):
        collect = {**plugins[1], "cni.dev/valid-attachments": valid}
        assert host.call("GC", collect, "", "").status == 0
        assert (ifb in host.run("ip", "link")) is bool(valid)


def test_status_tells_of_room(host: Host) -> None:
    small = {"ranges": [[{"subnet": "10.71.0.0/30"}]]}
    settings = config(host, "phalanx-bridge", "phalanx-ipam", ipam=small, cniVersion="1.1.0")

    assert host.call("STATUS", settings, "").status == 0
    host.chain("ADD", [settings], host.netns())

    assert host.call("STATUS", settings, "").output["code"] == 50


def test_leases_of_an_earlier_boot_are_void(host: Host) -> None:
    settings = config(host, "phalanx-bridge", "phalanx-ipam")
    host.chain("ADD", [settings], host.netns())
    (host.leases / "testnet/boot").write_text("another boot")

    host.chain("ADD", [settings], host.netns(), "c2")

    assert host.held("testnet") == {"10.71.0.3": "c2\r\neth0"}


def test_parallel_adds_and_deletes(host: Host) -> None:
    settings = config(host, "phalanx-bridge", "phalanx-ipam", isDefaultGateway=True, ipMasq=True)
    spaces = {f"c{number}": host.netns() for number in range(24)}
    with ThreadPoolExecutor(8) as threads:
        results = list(
            threads.map(
                lambda item: host.chain("ADD", [settings], item[1], item[0]), spaces.items()
            )
        )
        addresses = {result["ips"][0]["address"] for result in results}
        for container, ns in list(spaces.items())[:3]:
            host.run("ping", "-c1", "-w10", "10.71.0.1", ns=ns)
            assert container in "".join(host.held("testnet").values())
        list(threads.map(lambda i: host.chain("DEL", [settings], i[1], i[0]), spaces.items()))

    assert len(addresses) == 24
    assert host.held("testnet") == {}
    assert host.elements() == []
    assert host.run("ip", "-o", "link", "show", "master", "phxtestbr") == ""


STEPS = ("sendto", "rename", "link", "unlink", "setns", "ftruncate", "flock", "mkdir")


def killed(host: Host, command: str, settings: Json, ns: str, step: str, number: int) -> bool:
    """Run a plugin and kill it in one of its system calls, counted from 1; tell if it was."""
    done = subprocess.run(
        [
            "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={step}",
            "-e", f"inject={step}:signal=KILL:when={number}",
            *host.enter(host.path("phalanx-bridge")),
        ],
        env=host.environ(command, ns, "c1"),
        input=json.dumps(settings).encode(),
        capture_output=True,
    )  # fmt: skip
    return done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


@pytest.mark.parametrize("cleaned", ["DEL", "GC"])
@pytest.mark.parametrize("dies", ["ADD", "DEL"])
def test_killed_at_any_step_leaks_nothing(host: Host, dies: str, cleaned: str) -> None:
    """Kill it in each step; the DEL or the GC after it leaves nothing, an ADD works."""
    settings = config(
        host,
        "phalanx-bridge",
        "phalanx-ipam",
        cniVersion="1.1.0",
        isDefaultGateway=True,
        ipMasq=True,
        antiSpoofing=True,
        runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80}]},
    )
    ns = host.netns()
    host.chain("ADD", [settings], ns)
    host.chain("DEL", [settings], ns)
    kills = 0
    for step in STEPS:
        for number in count(1):
            where = f"{step} {number}"
            if dies == "DEL":
                host.chain("ADD", [settings], ns)
            was_killed = killed(host, dies, settings, ns, step, number)

            answer = host.call(cleaned, {**settings, "cni.dev/valid-attachments": []}, ns)
            assert answer.status == 0, (where, answer.output)

            assert host.held("testnet") == {}, where
            assert host.elements() == [], where
            assert "eth0" not in host.run("ip", "link", ns=ns), where
            assert not list(Path("/run/phalanx/cni", host.cookie, "testnet").iterdir()), where
            if not was_killed:
                break
            kills += 1
    assert kills >= (5 if dies == "DEL" else 15)
    host.chain("ADD", [settings], ns)
    host.chain("DEL", [settings], ns)


def test_full_disk_refuses_and_leaves_nothing(host: Host) -> None:
    """A file system with room for a few files only, and for one more each time."""
    ns = host.netns()
    settings = config(host, "phalanx-bridge", "phalanx-ipam")
    host.leases.mkdir()
    for room in range(2, 12):
        options = f"nr_inodes={room}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", host.leases], check=True)
        try:
            answer = host.call("ADD", settings, ns)
            if answer.status == 0:
                assert len(host.held("testnet")) == 1
                assert host.call("DEL", settings, ns).status == 0
                break
            assert answer.output["code"] == 100
            assert "No space left" in answer.output["msg"]
            assert host.held("testnet") == {}
            assert "eth0" not in host.run("ip", "link", ns=ns)
            assert json.loads(host.run("ip", "-j", "link", "show", "master", "phxtestbr")) == []
        finally:
            subprocess.run(["umount", host.leases], check=True)
    else:
        pytest.fail("no room was enough")

    assert room > 4
