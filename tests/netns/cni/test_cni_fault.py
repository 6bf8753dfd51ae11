"""What is on disk is torn, can't be written, or is of a machine that was started anew."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from tests.netns.cni.host import Host, Json
from tests.netns.cni.test_cni_chain import WEB, ask, chain, listen, ports

WISHES: Json = {"hairpinMode": True, "ipMasq": True, "antiSpoofing": True, "six": "", **ports(WEB)}


def plugin(host: Host, **more: Any) -> Json:
    [found] = chain(host, **{**WISHES, **more})
    return {**found, "cniVersion": "1.1.0"}


def collect(host: Host, settings: Json, *valid: str) -> None:
    listed = [{"containerID": each, "ifname": "eth0"} for each in valid]
    answer = host.call("GC", {**settings, "cni.dev/valid-attachments": listed}, host.ns)
    assert answer.status == 0, answer.output


@pytest.mark.parametrize("content", [b"", b'{"owner": "c1:eth0", "elem', b"\xff\xfe", b"[]"])
def test_torn_record_of_elements_takes_nothing_from_others(host: Host, content: bytes) -> None:
    settings, ns, other = plugin(host), host.netns(), host.netns()
    host.chain("ADD", [settings], ns)
    [record] = Path("/run/phalanx/cni", host.cookie, "testnet").iterdir()
    record.write_bytes(content)

    done = host.call("DEL", settings, ns)

    assert done.status == 0, done.output
    assert host.held("testnet") == {}
    assert host.elements() == []
    listen(host, other)
    host.chain("ADD", [settings], other, "c2")
    assert ask(host, host.ns, "127.0.0.1") != "nothing"
    host.chain("DEL", [settings], other, "c2")
    assert host.elements() == []


GUARDED: Json = {"type": "phalanx-isolation", "ingressPolicy": "isolated"}
MAPPED: Json = {"type": "phalanx-portmap", **ports(WEB)}


def record(host: Host, container: str, kind: str, network: str = "testnet") -> Path:
    """Return the file of what a plugin made for a container."""
    name = sha1(f"{container}:eth0 {kind}".encode(), usedforsecurity=False).hexdigest()
    return Path("/run/phalanx/cni", host.cookie, network, name)


@pytest.mark.parametrize("made", ["before", "after"])
def test_torn_record_of_one_plugin_leaves_what_others_of_its_chain_made(
    host: Host, made: str
) -> None:
    """An ADD is tried again on a node whose record of an earlier try is torn."""
    more = [GUARDED, MAPPED] if made == "before" else [MAPPED, GUARDED]
    settings, ns, unguarded = chain(host, *more, ipMasq=True, six=""), host.netns(), host.netns()
    result = host.chain("ADD", settings, ns)
    whole = sorted(host.elements())
    last = settings[-1]["type"]
    assert len(list(record(host, "c1", last).parent.iterdir())) == 3
    record(host, "c1", last).write_bytes(b'{"owner": "c1:eth0", "elem')

    host.chain("ADD", settings[-1:], ns, previous=result)

    assert sorted(host.elements()) == whole
    host.chain("CHECK", settings[1:], ns, previous=result)
    host.chain("ADD", chain(host, six=""), unguarded, "c2")
    assert answers(host, unguarded, "10.71.0.8")
    assert not answers(host, ns, "10.71.0.9")


def answers(host: Host, ns: str, address: str) -> bool:
    """Tell whether the gateway answers a container that sends from an address it took itself."""
    host.run("ip", "addr", "add", f"{address}/24", "dev", "eth0", ns=ns)
    ping = host.enter("ping", "-c1", "-w3", "-I", address, "10.71.0.1", ns=ns)
    return subprocess.run(ping, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", ["phalanx-bridge", "phalanx-isolation", "phalanx-portmap"])
def test_torn_record_goes_with_a_gc_unless_its_owner_is_valid(host: Host, kind: str) -> None:
    settings = [
        {**each, "cniVersion": "1.1.0"} for each in chain(host, GUARDED, MAPPED, ipMasq=True)
    ]
    other = {"name": "other", "subnet": "10.72.0.0/24", "six": "", "bridge": "phxtestb2"}
    beside = chain(host, GUARDED, **other)
    host.chain("ADD", beside, host.netns(), "c9")
    apart = sorted(host.elements())
    host.chain("ADD", settings, host.netns())
    whole = sorted(host.elements())
    record(host, "c1", kind).write_bytes(b"")
    record(host, "c9", "phalanx-isolation", "other").write_bytes(b"")

    for each in settings:
        collect(host, each, "c1")
    assert sorted(host.elements()) == whole

    for each in settings:
        collect(host, each)
    assert sorted(host.elements()) == apart
    assert not list(record(host, "c1", kind).parent.iterdir())


def test_torn_lease_is_nobodys_and_goes_with_a_gc(host: Host) -> None:
    settings, one, other = plugin(host, runtimeConfig={}), host.netns(), host.netns()
    for ns, container in ((one, "c1"), (other, "c2")):
        host.chain("ADD", [settings], ns, container)
    (host.leases / "testnet" / "10.71.0.2").write_bytes(b"")

    assert host.call("DEL", settings, one).status == 0
    third = host.netns()
    result = host.chain("ADD", [settings], third, "c3")
    assert result["ips"][0]["address"] == "10.71.0.4/24"
    collect(host, settings, "c2", "c3")

    assert host.held("testnet").keys() == {"10.71.0.3", "10.71.0.4"}


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", place, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def test_read_only_state_refuses_and_a_later_delete_frees_all(host: Host) -> None:
    settings, ns, fresh = plugin(host), host.netns(), host.netns()
    result = host.chain("ADD", [settings], ns)
    with read_only(host.leases):
        refused = host.call("ADD", settings, fresh, "c2")
        assert refused.output["code"] == 100
        assert "Read-only" in refused.output["msg"]
        assert "eth0" not in host.run("ip", "link", ns=fresh)
        kept = host.call("DEL", {**settings, "prevResult": result}, ns)
        assert kept.output["code"] == 100  # its runtime tries again
        assert host.held("testnet").keys() == {"10.71.0.2"}

    assert host.call("DEL", {**settings, "prevResult": result}, ns).status == 0
    assert host.held("testnet") == {}
    assert host.elements() == []
    assert host.chain("ADD", [settings], fresh, "c2")["ips"][0]["address"] == "10.71.0.3/24"


def test_machine_that_was_started_anew_begins_with_nothing(host: Host) -> None:
    """The disk keeps the leases; /run, links and tables are gone, as with another namespace."""
    settings, before = plugin(host), host.netns()
    result = host.chain("ADD", [settings], before)
    (host.leases / "testnet" / "boot").write_text("another boot")
    shutil.rmtree(Path("/run/phalanx/cni", host.cookie))
    again = host.other(host.directory)
    ns = again.netns()

    old = again.call("DEL", {**settings, "prevResult": result}, "phxtest-gone")
    new = again.chain("ADD", [settings], ns, "c9")

    assert old.status == 0, old.output
    assert new["ips"][0]["address"] == "10.71.0.3/24"
    assert again.held("testnet").keys() == {"10.71.0.3"}
    again.chain("DEL", [settings], ns, "c9")
    assert again.held("testnet") == {}
    assert again.elements() == []
