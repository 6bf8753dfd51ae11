"""What holds containers: cgroups, disk quotas, limits and privileges of their processes."""

import asyncio
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.netns.agent.house import House, eventually, living

from phalanx.agent.bundle.privilege import Granted
from phalanx.agent.bundle.spec import Device, Terms
from phalanx.agent.cleanup import remove_all
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Scalar

MEGABYTE = 1024 * 1024


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path) as made:
        yield made


def limits(**amounts: float) -> dict[str, Scalar]:
    return {name: Scalar(value=value) for name, value in amounts.items()}


def cgroup(house: House, controller: str, name: str, file: str) -> str:
    return (Path("/sys/fs/cgroup") / controller / house.cgroups.root / name / file).read_text()


@pytest.mark.parametrize(
    ("most", "has_quota", "quota"),
    [
        pytest.param({}, False, -1, id="shares-alone"),
        pytest.param({}, True, 50_000, id="cfs-enabled"),
        pytest.param({"cpus": 2.0}, False, 200_000, id="limit"),
        pytest.param({"cpus": float("inf")}, True, -1, id="infinite"),
    ],
)
async def test_cpu_is_shared_by_request_and_capped_by_limit(
    house: House, most: dict[str, float], has_quota: bool, quota: int
) -> None:
    house.engine = house.made({}, terms=Terms(has_quota=has_quota))
    asked = Resources.parse("cpus:0.5;mem:64")

    await house.start("c1", "sleep 600", resources=asked, limits=limits(**most))

    assert cgroup(house, "cpu", "c1", "cpu.shares").strip() == "512"
    assert int(cgroup(house, "cpu", "c1", "cpu.cfs_quota_us")) == quota


async def test_memory_has_a_soft_and_a_hard_limit(house: House) -> None:
    asked = Resources.parse("cpus:0.1;mem:64")

    await house.start("c1", "sleep 600", resources=asked, limits=limits(mem=128))
    await house.start("c2", "sleep 600", resources=asked, limits=limits(mem=float("inf")))

    soft, hard = "memory.soft_limit_in_bytes", "memory.limit_in_bytes"
    assert int(cgroup(house, "memory", "c1", soft)) == 64 * MEGABYTE
    assert int(cgroup(house, "memory", "c1", hard)) == 128 * MEGABYTE
    assert int(cgroup(house, "memory", "c2", soft)) == 64 * MEGABYTE
    assert int(cgroup(house, "memory", "c2", hard)) > 2**60


async def test_too_much_memory_is_told_as_such(house: House) -> None:
    asked = Resources.parse("cpus:0.1;mem:32")
    script = "import os; x = bytearray(os.urandom(1)) * (80 << 20)"
    await house.start("c1", f"python3 -c '{script}'; sleep 600", resources=asked)

    exit = await house.engine.wait("c1")

    assert exit.limitation is not None
    assert exit.limitation.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    first, *rest = exit.limitation.message.splitlines()
    assert first == "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB"
    assert rest[:2] == ["", "MEMORY STATISTICS: "]
    assert any(line.startswith("rss ") for line in rest)
    assert Resources.of(exit.limitation.resources).scalar("mem") == 32
    assert house.engine.find("c1").exit == exit


async def test_who_may_use_more_than_he_asked_for_dies_first(house: House) -> None:
    house.engine = house.made({}, terms=Terms(machine_bytes=1024 * MEGABYTE))
    asked = Resources.parse("cpus:0.1;mem:256")

    even = await house.start("c1", "sleep 600", resources=asked)
    more = await house.start("c2", "sleep 600", resources=asked, limits=limits(mem=512))

    assert Path(f"/proc/{even}/oom_score_adj").read_text().strip() == "0"
    assert Path(f"/proc/{more}/oom_score_adj").read_text().strip() == "750"


async def test_a_fork_bomb_is_held(house: House) -> None:
    house.engine = house.made({}, terms=Terms(pids=20))
    await house.start("c1", "for i in $(seq 50); do sleep 600 & done; wait")

    await eventually(
        lambda: (
            "fork" in (house.sandbox("c1") / "stderr").read_text()
            or not house.cgroups.processes("c1")
        )
    )

    assert len(house.cgroups.processes("c1")) <= 20
    assert cgroup(house, "pids", "c1", "pids.max").strip() == "20"


async def test_a_full_sandbox_ends_its_container(house: House) -> None:
    house.engine = house.made({}, disk_seconds=0.05, enforces_disk=True)
    asked = Resources.parse("cpus:0.1;mem:64;disk:2")
    watching = asyncio.create_task(house.engine.watch_disks())
    await house.start("c1", "head -c 8m /dev/urandom > big; sleep 600", resources=asked)

    exit = await house.engine.wait("c1")

    watching.cancel()
    assert exit.limitation is not None
    assert exit.limitation.reason == "REASON_CONTAINER_LIMITATION_DISK"
    assert exit.limitation.message.startswith("Disk usage (")
    assert exit.limitation.message.endswith("exceeds quota (2MB)")


async def test_disk_is_measured_where_nothing_is_enforced(house: House) -> None:
    house.engine = house.made({}, disk_seconds=0.05)
    asked = Resources.parse("cpus:0.1;mem:64;disk:2")
    await house.start("c1", "head -c 4m /dev/urandom > big; sleep 600", resources=asked)

    watching = asyncio.create_task(house.engine.watch_disks())
    async with asyncio.timeout(20.0):
        while True:
            found = await house.engine.statistics("c1")
            if (found.disk_used_bytes or 0) >= 4 * MEGABYTE:
                break
            await asyncio.sleep(0.01)

    watching.cancel()
    assert found.disk_limit_bytes == 2 * MEGABYTE
    assert house.engine.find("c1").exit is None


async def test_an_output_without_end_stays_bounded(house: House) -> None:
    house.bound = 100_000
    house.engine = house.made({})
    await house.start("c1", "head -c 1000000 /dev/zero; echo last")

    exit = await house.engine.wait("c1")

    assert exit.status == 0
    sizes = {path.name: path.stat().st_size for path in house.sandbox("c1").iterdir()}
    assert sizes.keys() == {"stdout", "stdout.1", "stderr"}
    assert max(sizes.values()) <= 100_000 + 65536
    assert (house.sandbox("c1") / "stdout").read_bytes().endswith(b"last\n")


async def test_an_output_stays_bounded_whatever_the_command_does_to_its_files(
    house: House,
) -> None:
    house.bound = 100_000
    house.engine = house.made({})
    await house.start("c1", "mkdir stdout.1; head -c 1000000 /dev/zero")

    exit = await house.engine.wait("c1")

    assert exit.status == 0
    assert (house.sandbox("c1") / "stdout").stat().st_size <= 100_000 + 65536


@pytest.mark.parametrize("bound", [0, 100_000])
async def test_an_output_is_not_written_through_a_link(house: House, bound: int) -> None:
    house.bound = bound
    house.engine = house.made({})
    victim = house.base / "victim"
    with tarfile.open(house.base / "links.tar", "w") as archive:
        (house.base / "stdout").symlink_to(victim)
        archive.add(house.base / "stdout", "stdout")

    uris = [{"value": str(house.base / "links.tar")}]
    with pytest.raises(ContainerError):
        await house.start("c1", {"value": "echo x", "uris": uris})

    assert not victim.exists()


@pytest.fixture
async def small_runtime(house: House) -> AsyncIterator[Path]:
    """A file system of one megabyte as the runtime directory."""
    place = house.layout.runtime
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        yield place
        await house.engine.remove("c1")
        assert not house.layout.run("c1").exists()
    finally:
        remove_all(house.layout.runtime, house.cgroups.root)
        await asyncio.to_thread(subprocess.run, ["umount", str(place)], check=True)


async def test_how_a_container_ended_is_told_when_the_disk_was_full(
    house: House, small_runtime: Path
) -> None:
    await house.start("c1", "while [ ! -e go ]; do sleep 0.02; done; exit 7")
    with suppress(OSError), (small_runtime / "fill").open("wb", buffering=0) as fill:
        while fill.write(bytes(4096)):
            pass
    (house.sandbox("c1") / "go").touch()

    exit = await house.engine.wait("c1")

    assert exit.status is not None
    assert os.waitstatus_to_exitcode(exit.status) == 7


async def test_what_can_not_be_removed_for_a_while_is_not_forgotten(
    house: House, small_runtime: Path
) -> None:
    await house.start("c1", "true")
    await house.engine.wait("c1")
    remount = ["mount", "-o", "remount,ro", str(small_runtime)]
    await asyncio.to_thread(subprocess.run, remount, check=True)
    try:
        with pytest.raises(ContainerError, match="Read-only file system"):
            await house.engine.remove("c1")
    finally:
        remount[2] = "remount,rw"
        await asyncio.to_thread(subprocess.run, remount, check=True)


async def test_a_full_disk_costs_the_output_and_not_the_container(house: House) -> None:
    house.bound = 1 << 30
    house.engine = house.made({})
    place = house.sandbox("c1")
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        await house.start("c1", "head -c 1000000 /dev/zero; exit 7")
        exit = await house.engine.wait("c1")
        await house.engine.remove("c1")
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(place)], check=True)

    assert exit.status == 7 << 8


async def test_a_full_disk_at_the_start_is_told_and_leaves_nothing(house: House) -> None:
    place = house.layout.runtime
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        await asyncio.to_thread((place / "filler").write_bytes, b"x" * 4096)
        with pytest.raises(ContainerError, match="No space left on device"):
            await house.start("c1", "sleep 600")
        await house.engine.remove("c1")
        assert house.engine.known() == ()
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{house.cgroups.root}/c1"))
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(place)], check=True)


async def test_limits_of_a_process_are_set(house: House) -> None:
    rlimits = [
        {"type": "RLMT_NOFILE", "soft": 123, "hard": 456},
        {"type": "RLMT_CORE"},
    ]

    said = await house.said(
        "c1",
        "ulimit -Sn; ulimit -Hn; ulimit -c; umask",
        container={"rlimit_info": {"rlimits": rlimits}},
    )

    assert said.split() == ["123", "456", "unlimited", "0022"]


def held(text: str, kind: str) -> int:
    return next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith(kind))


NET_ADMIN, NET_RAW, CHOWN = 1 << 12, 1 << 13, 1 << 0


async def test_capabilities_are_those_asked_for(house: House) -> None:
    linux = {"effective_capabilities": {"capabilities": ["NET_ADMIN"]}}

    own = await house.said("c1", "cat /proc/self/status", container={"linux_info": linux})
    common = await house.said("c2", "cat /proc/self/status")
    nobody = await house.said(
        "c3", "cat /proc/self/status", container={"linux_info": linux}, user="nobody"
    )

    assert held(own, "CapEff") == held(own, "CapBnd") == NET_ADMIN
    assert held(common, "CapEff") & (CHOWN | NET_ADMIN) == CHOWN
    assert held(nobody, "CapEff") == NET_ADMIN


async def test_nobody_leaves_the_operators_bounds(house: House) -> None:
    granted = Granted(bounding=("CAP_NET_RAW",))
    house.engine = house.made({}, terms=Terms(granted=granted, no_new_privileges=True))
    linux = {"effective_capabilities": {"capabilities": ["SYS_ADMIN"]}}

    said = await house.said("c1", "cat /proc/self/status")
    with pytest.raises(ContainerError, match="Effective capabilities CAP_SYS_ADMIN"):
        await house.start("c2", "true", container={"linux_info": linux})

    assert held(said, "CapEff") == NET_RAW
    assert "NoNewPrivs:\t1" in said


async def test_devices_are_the_common_ones_and_those_allowed(house: House) -> None:
    number = os.stat("/dev/fuse").st_rdev
    device = Device("/dev/fuse", "c", os.major(number), os.minor(number), "rw")
    look = "cat /dev/null; test -c /dev/fuse && : < /dev/fuse && echo yes || echo no"

    assert (await house.said("c1", look)).strip() == "no"
    house.engine = house.made({}, terms=Terms(devices=(device,)))
    assert (await house.said("c2", look)).strip() == "yes"


async def test_shared_memory_has_the_size_asked_for(house: House) -> None:
    df = "df -k /dev/shm | tail -n 1"

    asked = await house.said("c1", df, container={"linux_info": {"shm_size": 5}})
    own = await house.said("c2", df)

    assert asked.split()[1] == str(5 * 1024)
    assert own.split()[1] == str(64 * 1024)


async def test_a_pod_shares_its_memory_files_unless_asked_not_to(house: House) -> None:
    await house.start("pod", None, "executor")
    await house.start("pod.a", "echo hi > /dev/shm/word; sleep 600", "nested")
    private = {"linux_info": {"ipc_mode": "PRIVATE"}}
    await eventually(lambda: (house.layout.run("pod") / "shm" / "word").exists())

    shared = await house.said("pod.b", "cat /dev/shm/word", "nested")
    alone = await house.said("pod.c", "ls /dev/shm", "nested", private)

    assert shared == "hi\n"
    assert alone == ""


async def test_the_agents_namespaces_are_shared_only_where_that_is_allowed(house: House) -> None:
    share: dict[str, Any] = {"linux_info": {"share_pid_namespace": True}}
    pid = await house.start("c1", "sleep 600 & sleep 601", container=share)
    assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")

    house.engine.kill("c1")
    assert (await house.engine.wait("c1")).status == signal.SIGKILL
    await house.engine.remove("c1")
    assert house.cgroups.processes("c1") == ()

    house.engine = house.made({}, keeps_pid=True, keeps_ipc=True)
    with pytest.raises(ContainerError, match="Sharing agent pid namespace"):
        await house.start("c2", "true", container=share)
    with pytest.raises(ContainerError, match="Sharing agent IPC namespace"):
        await house.start("c3", "true", container={"linux_info": {"ipc_mode": "SHARE_PARENT"}})


async def test_a_seccomp_profile_is_found_or_refused_by_name(house: House) -> None:
    profiles = house.base / "profiles"
    profiles.mkdir()
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (profiles / "strict").write_text(json.dumps(profile))
    house.engine = house.made({}, profiles=profiles)

    def asked(name: str) -> dict[str, Any]:
        return {"linux_info": {"seccomp": {"profile_name": name}}}

    said = await house.said("c1", "mkdir d 2>&1 || true", container=asked("strict"))
    with pytest.raises(ContainerError, match="profile 'other': there is none"):
        await house.start("c2", "true", container=asked("other"))

    assert "Operation not permitted" in said


async def test_a_user_that_is_not_there_is_named(house: House) -> None:
    with pytest.raises(ContainerError, match="user: 'nosuch': is not known"):
        await house.start("c1", "true", user="nosuch")
    house.engine = house.made({}, switches_user=False)
    assert (await house.said("c2", "id -un", user="nosuch")).strip() == "root"
