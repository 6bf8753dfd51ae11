"""The quick ADD of phalanx-bridge beside the Python plugin behind it: one outcome of both."""

import json
import signal
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.netns.cni.host import Answer, Host, Json

from phalanx.cni.install import BEHIND_QUICK
from phalanx.cni.quick_add import quick_add

STEPS = ("write", "link", "unlink", "setns", "ftruncate", "flock", "sendto")


def plain(host: Host, subnet: str = "10.71.0.0/24", **more: Any) -> Json:
    ipam = {"type": "phalanx-ipam", "dataDir": str(host.leases), "ranges": [[{"subnet": subnet}]]}
    base = {"cniVersion": "1.0.0", "name": "testnet", "type": "phalanx-bridge"}
    return {**base, "bridge": "phxtestbr", "isDefaultGateway": True, "ipam": ipam, **more}


def run(host: Host, path: Path, config: Json, ns: str, container: str, **more: str) -> Answer:
    return Answer(
        subprocess.run(
            host.enter(str(path)),
            env=host.environ("ADD", ns, container, **more),
            input=json.dumps(config).encode(),
            capture_output=True,
            timeout=60,
        )
    )


@pytest.fixture
def alone(host: Host) -> Path:
    """Return the quick ADD with nothing behind it: what it leaves to others fails with 9."""
    behind = host.directory / "behind"
    behind.write_text("#!/bin/sh\nexit 9\n")
    path = host.directory / "quick-add"
    path.write_text(quick_add(str(behind)))
    for each in (behind, path):
        each.chmod(0o755)
    return path


def normal(value: Any, words: dict[str, str]) -> Any:
    """Return a value with one's own words in it replaced by common ones."""
    text = json.dumps(value, sort_keys=True)
    for word, common in words.items():
        text = text.replace(word, common)
    return json.loads(text)


def seen(host: Host, ns: str, result: Json) -> tuple[Any, ...]:
    """Return what the kernel tells of an attachment, without what is drawn or counted."""
    veth = result["interfaces"][1]["name"]
    words = {
        result["ips"][0]["address"].partition("/")[0]: "ADDRESS",
        result["interfaces"][1]["mac"]: "HOSTMAC",
        result["interfaces"][2]["mac"]: "MAC",
        veth: "VETH",
        ns: "NS",
    }
    links = [
        json.loads(host.run("ip", "-j", "-d", "link", "show", name, ns=where))[0]
        for name, where in ((veth, ""), ("eth0", ns))
    ]
    for link in links:
        for key in ("ifindex", "link_index", "link_netnsid", "link_netns"):
            link.pop(key, None)
        link["ifalias"] = link.get("ifalias", "").rpartition(" ")[0]
        port = link.get("linkinfo", {}).get("info_slave_data", {})
        for key in [
            k for k in port if "timer" in k or k in ("id", "no", "state", "designated_port")
        ]:
            del port[key]
    addresses = json.loads(host.run("ip", "-j", "-4", "addr", "show", "eth0", ns=ns))[0]
    routes = json.loads(host.run("ip", "-j", "route", ns=ns))
    lease = (host.leases / "testnet" / result["ips"][0]["address"].partition("/")[0]).read_bytes()
    return tuple(
        normal(each, words)
        for each in (result, links, addresses["addr_info"], routes, lease.decode()[2:])
    )


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"isDefaultGateway": False, "isGateway": True},
        {"hairpinMode": True, "mtu": 1400, "capabilities": {"mac": True}},
        {"hairpinMode": False, "mtu": 0, "isGateway": False},
    ],
    ids=["default-gateway", "gateway", "hairpin-and-mtu", "falses"],
)
def test_both_do_the_same(host: Host, alone: Path, options: Json, version: str) -> None:
    settings = plain(host, cniVersion=version, **options)
    before, slow, quick = (host.netns() for _ in range(3))
    assert run(host, BEHIND_QUICK, settings, before, "c0").status == 0
    by_python = run(host, BEHIND_QUICK, settings, slow, "c1").result

    by_perl = run(host, alone, settings, quick, "c2").result

    assert list(by_perl) == list(by_python)
    assert by_perl["ips"][0]["address"] == "10.71.0.4/24"
    assert seen(host, quick, by_perl) == seen(host, slow, by_python)
    host.run("ping", "-c1", "-w10", "10.71.0.1", ns=quick)
    if version == "1.1.0":
        host.chain("CHECK", [settings], quick, "c2", previous=by_perl)
    host.chain("DEL", [settings], quick, "c2", previous=by_perl)
    assert host.held("testnet").keys() == {"10.71.0.2", "10.71.0.3"}


def test_addresses_go_round_whoever_gives_them(host: Host, alone: Path) -> None:
    """Of a /29 there are five; each is given once, then in the order of their return."""
    settings = plain(host, "10.71.0.0/29")
    spaces = [host.netns() for _ in range(6)]
    paths = [BEHIND_QUICK, alone, BEHIND_QUICK, alone, alone]
    given = [
        run(host, path, settings, ns, f"c{number}").result["ips"][0]["address"]
        for number, (path, ns) in enumerate(zip(paths, spaces[:5], strict=True))
    ]
    assert given == [f"10.71.0.{number}/29" for number in range(2, 7)]
    assert run(host, alone, settings, spaces[5], "c5").status == 9
    full = host.call("ADD", settings, spaces[5], "c5")
    assert full.output["code"] == 11

    for number in (3, 1):
        host.chain("DEL", [settings], spaces[number], f"c{number}")
    again = [
        run(host, path, settings, spaces[number], f"d{number}").result["ips"][0]["address"]
        for path, number in ((alone, 1), (BEHIND_QUICK, 3))
    ]
    assert again == ["10.71.0.3/29", "10.71.0.5/29"]


@pytest.mark.parametrize(
    ("more", "environ"),
    [
        ({"ipMasq": True}, {}),
        ({"dns": {}}, {}),
        ({"runtimeConfig": {"mac": "02:00:00:00:00:01"}}, {}),
        ({"prevResult": {}}, {}),
        ({"isDefaultGateway": "true"}, {}),
        ({"isDefaultGateway": False}, {}),
        ({"bridge": "other0"}, {}),
        ({"mtu": "1400"}, {}),
        ({"mtu": 65536}, {}),
        ({"cniVersion": "0.4.0"}, {}),
        ({"cniVersion": "2.0.0"}, {}),
        ({"ipam": {"type": "phalanx-ipam", "subnet": "10.71.0.1/24"}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "subnet": "10.71.0.0/31"}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "subnet": "10.71.0.256/24"}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "subnet": "fd00::/64"}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "subnet": "10.71.0.0/24", "ranges": []}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "subnet": "10.71.0.0/24", "routes": []}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "ranges": [[{"subnet": "10.71.0.0/24"}], []]}}, {}),
        ({"ipam": {"type": "host-local", "subnet": "10.71.0.0/24"}}, {}),
        ({}, {"CNI_ARGS": "IgnoreUnknown=1"}),
        ({}, {"CNI_IFNAME": "lo"}),
        ({}, {"CNI_IFNAME": "a/b"}),
        ({}, {"CNI_CONTAINERID": "c0"}),
        ({}, {"CNI_NETNS": "/nowhere"}),
        ({}, {"CNI_NETNS": "/proc/self/ns/net"}),
        ({}, {"CNI_NETNS": "/dev/null"}),
    ],
)
def test_what_is_not_plain_is_left_to_the_plugin(
    host: Host, alone: Path, more: Json, environ: dict[str, str]
) -> None:
    first, ns = host.netns(), host.netns()
    assert run(host, BEHIND_QUICK, plain(host), first, "c0").status == 0
    links = host.run("ip", "-o", "link")

    answer = run(host, alone, plain(host, **more), ns, "c1", **environ)

    assert (answer.status, answer.output, answer.stderr) == (9, {}, "")
    assert host.held("testnet").keys() == {"10.71.0.2"}
    assert "eth0" not in host.run("ip", "link", ns=ns)
    assert host.run("ip", "-o", "link").count("\n") == links.count("\n")


@pytest.mark.parametrize("spoil", ["address", "boot", "down", "forwarding", "kind"])
def test_bridge_that_does_not_stand_is_left_to_the_plugin(
    host: Host, alone: Path, spoil: str
) -> None:
    first, ns = host.netns(), host.netns()
    assert run(host, BEHIND_QUICK, plain(host), first, "c0").status == 0
    match spoil:
        case "address":
            host.run("ip", "addr", "del", "10.71.0.1/24", "dev", "phxtestbr")
        case "boot":
            (host.leases / "testnet" / "boot").write_text("another")
        case "down":
            host.run("ip", "link", "set", "phxtestbr", "down")
        case "forwarding":
            host.run("sysctl", "-w", "net.ipv4.ip_forward=0")
        case _:
            host.run("ip", "link", "del", "phxtestbr")
            host.run("ip", "link", "add", "phxtestbr", "type", "veth", "peer", "name", "phxtestbx")

    assert run(host, alone, plain(host), ns, "c1").status == 9

    assert "eth0" not in host.run("ip", "link", ns=ns)
    if spoil != "kind":
        assert host.call("ADD", plain(host), ns).status == 0
        host.run("ping", "-c1", "-w10", "10.71.0.1", ns=ns)


def test_interface_that_is_there_is_refused_and_spared(host: Host) -> None:
    first, ns = host.netns(), host.netns()
    for container, space in (("c0", first), ("c1", ns)):
        host.chain("ADD", [plain(host)], space, container)

    again = host.call("ADD", plain(host), ns, "c1")

    assert again.output["code"] == 101
    host.run("ping", "-c1", "-w10", "10.71.0.1", ns=ns)
    assert host.held("testnet").keys() == {"10.71.0.2", "10.71.0.3"}


def refused_at(host: Host, step: str, error: str, ns: str) -> Answer:
    """Run the plugin's ADD with the second call of a step, which is the container's, refused."""
    traced = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={step}"]
    inject = ["-e", f"inject={step}:error={error}:when=2", host.path("phalanx-bridge")]
    return Answer(
        subprocess.run(
            host.enter(*traced, *inject),
            env=host.environ("ADD", ns, "c1"),
            input=json.dumps(plain(host)).encode(),
            capture_output=True,
            timeout=60,
        )
    )


@pytest.mark.parametrize(("step", "error"), [("socket", "EMFILE"), ("setsockopt", "ENOBUFS")])
def test_what_is_refused_in_the_container_is_done_on_the_node(
    host: Host, step: str, error: str
) -> None:
    first, ns = host.netns(), host.netns()
    host.chain("ADD", [plain(host)], first, "c0")

    given = refused_at(host, step, error, ns).result["ips"][0]["address"]

    assert given == "10.71.0.3/24"
    host.run("ping", "-c1", "-w10", "10.71.0.1", ns=ns)
    assert "phxtestbr" not in host.run("ip", "link", ns=ns)
    assert host.held("testnet").keys() == {"10.71.0.2", "10.71.0.3"}


def test_no_way_back_to_the_node_is_an_error_of_the_specification(host: Host) -> None:
    first, ns = host.netns(), host.netns()
    host.chain("ADD", [plain(host)], first, "c0")

    answer = refused_at(host, "setns", "ENOMEM", ns)

    assert answer.status == 1
    assert answer.output == {
        "cniVersion": "1.0.0",
        "code": 100,
        "msg": "back to the node's network namespace: Cannot allocate memory",
    }
    assert "eth0" not in host.run("ip", "link", ns=ns)
    assert host.held("testnet").keys() == {"10.71.0.2"}


@pytest.mark.parametrize("cleaned", ["DEL", "GC", "ADD"])
def test_killed_at_any_step_leaks_nothing(host: Host, cleaned: str) -> None:
    settings = plain(host, cniVersion="1.1.0")
    first, ns = host.netns(), host.netns()
    host.chain("ADD", [settings], first, "c0")
    kills = 0
    for step in STEPS:
        for number in count(1):
            where = f"{step} {number}"
            done = subprocess.run(
                [
                    "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={step}",
                    "-e", f"inject={step}:signal=KILL:when={number}",
                    *host.enter(host.path("phalanx-bridge")),
                ],
                env=host.environ("ADD", ns, "c1"),
                input=json.dumps(settings).encode(),
                capture_output=True,
            )  # fmt: skip
            was_killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
            inside = "eth0" in host.run("ip", "link", ns=ns)
            if cleaned == "ADD" and not inside:
                again = host.chain("ADD", [settings], ns, "c1")
                assert again["ips"][0]["address"] != "10.71.0.2/24", where
                host.run("ping", "-c1", "-w10", "10.71.0.1", ns=ns)
            keep = [{"containerID": "c0", "ifname": "eth0"}]
            answer = host.call(
                "GC" if cleaned == "GC" else "DEL",
                {**settings, "cni.dev/valid-attachments": keep},
                ns,
            )
            assert answer.status == 0, (where, answer.output)
            assert host.held("testnet").keys() == {"10.71.0.2"}, where
            assert "eth0" not in host.run("ip", "link", ns=ns), where
            assert host.run("ip", "-o", "link").count("phxb") == 1, where
            if not was_killed:
                break
            kills += 1
    assert kills >= 8, kills
