"""Volumes in containers: of the host, shared in pods, secret, of images, persistent."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.netns.agent.house import House, eventually, living

from phalanx.agent.volume.persistent import create_volume, path_of
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import Resource


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with living(tmp_path) as made:
        yield made


def volumes(*given: dict[str, Any]) -> dict[str, Any]:
    return {"volumes": [{"mode": "RW", "container_path": "data", **one} for one in given]}


async def test_a_path_of_the_host_is_there_or_refused_or_made(house: House) -> None:
    place = house.base / "srv"
    place.mkdir()
    (place / "f").write_text("host's\n")

    said = await house.said(
        "c1",
        "cat data/f; (echo x > data/g) 2>/dev/null || echo closed",
        container=volumes({"host_path": str(place), "mode": "RO"}),
    )
    with pytest.raises(ContainerError, match="nothing': does not exist"):
        await house.start("c2", "true", container=volumes({"host_path": "/nothing"}))
    forced = house.base / "forced" / "deep"
    await house.said("c3", "echo x > data/f", container=volumes({"host_path": str(forced)}))

    assert said.split() == ["host's", "closed"]
    assert (forced / "f").read_text() == "x\n"


async def test_a_pod_shares_a_directory_of_its_sandbox(house: House) -> None:
    await house.start("pod", None, "executor")
    source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "common"}}

    await house.said("pod.a", "echo hi > data/f", "nested", volumes({"source": source}))
    said = await house.said("pod.b", "cat data/f", "nested", volumes({"source": source}))

    assert said == "hi\n"
    assert (house.sandbox("pod") / "common" / "f").exists()


async def test_a_link_does_not_lead_out_of_a_sandbox(house: House) -> None:
    house.sandbox("c1").mkdir(parents=True)
    (house.sandbox("c1") / "way").symlink_to("/etc")
    source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "way/out"}}

    with pytest.raises(ContainerError, match="leads out of the sandbox"):
        await house.start("c1", "true", container=volumes({"source": source}))

    assert not Path("/etc/out").exists()


async def test_a_secret_is_a_file_that_its_user_alone_may_read(house: House) -> None:
    (house.base / "secrets").mkdir()
    (house.base / "secrets" / "key").write_text("sesame")
    secret = {"type": "REFERENCE", "reference": {"name": "key"}}
    variable = {"name": "WORD", "type": "SECRET", "secret": secret}
    command = {
        "value": "cat data; echo; stat -L -c '%a %U' data; echo $WORD",
        "environment": {"variables": [variable]},
    }

    said = await house.said(
        "c1", command, container=volumes({"source": {"type": "SECRET", "secret": secret}})
    )

    assert said.split() == ["sesame", "400", "root", "sesame"]
    run = house.layout.run("c1")
    assert run.stat().st_mode & 0o077 == 0
    await house.engine.remove("c1")
    assert not run.exists()


async def test_mounts_pass_into_a_container_that_asks_for_it(house: House) -> None:
    place = house.base / "srv"
    (place / "sub").mkdir(parents=True)
    bind = ["mount", "--bind", str(place), str(place)]
    await asyncio.to_thread(subprocess.run, bind, check=True)
    await asyncio.to_thread(subprocess.run, ["mount", "--make-shared", str(place)], check=True)
    propagation = {"mount_propagation": {"mode": "HOST_TO_CONTAINER"}}
    source = {"type": "HOST_PATH", "host_path": {"path": str(place), **propagation}}
    try:
        await house.start(
            "c1",
            "echo ready; until test -e data/sub/f; do sleep 0.02; done; echo seen",
            container=volumes({"source": source}),
        )
        await eventually(lambda: "ready" in (house.sandbox("c1") / "stdout").read_text())
        mount = ["mount", "-t", "tmpfs", "tmpfs", str(place / "sub")]
        await asyncio.to_thread(subprocess.run, mount, check=True)
        (place / "sub" / "f").touch()

        assert (await house.engine.wait("c1")).status == 0
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(place / "sub")], check=True)
        await asyncio.to_thread(subprocess.run, ["umount", str(place)], check=True)


def persistent(name: str, *, is_shared: bool = False, mode: str = "RW") -> Resource:
    return from_json(
        Resource,
        {
            "name": "disk",
            "type": "SCALAR",
            "scalar": {"value": 5},
            "reservations": [{"type": "DYNAMIC", "role": "db"}],
            "disk": {
                "persistence": {"id": name},
                "volume": {"container_path": "data", "mode": mode},
            },
            **({"shared": {}} if is_shared else {}),
        },
    )


async def test_a_persistent_volume_outlives_its_tasks(house: House) -> None:
    work = str(house.layout.work)
    volume = persistent("v1")
    create_volume(volume, work)
    resources = Resources.of([volume])

    await house.said("c1", "id -u > data/who", resources=resources, user="nobody")
    await house.engine.remove("c1")
    said = await house.said("c2", "cat data/who", resources=resources)

    assert said.strip() == (Path(path_of(volume, work)) / "who").read_text().strip()
    with pytest.raises(ContainerError, match=r"persistent volume .*v2'?: does not exist"):
        await house.start("c3", "true", resources=Resources.of([persistent("v2")]))


async def test_a_shared_volume_is_used_by_several_at_once(house: House) -> None:
    volume = persistent("v1", is_shared=True)
    create_volume(volume, str(house.layout.work))
    resources = Resources.of([volume])
    await house.start("c1", "echo hi > data/f; sleep 600", resources=resources)
    place = Path(path_of(volume, str(house.layout.work)))
    await eventually(lambda: (place / "f").exists())

    assert await house.said("c2", "cat data/f", resources=resources) == "hi\n"


async def test_a_volume_beyond_its_size_ends_its_container(house: House) -> None:
    volume = persistent("v1")
    create_volume(volume, str(house.layout.work))
    house.engine = house.made({}, disk_seconds=0.05, enforces_disk=True)
    watching = asyncio.create_task(house.engine.watch_disks())
    command = "head -c 8m /dev/urandom > data/big; sleep 600"
    await house.start("c1", command, resources=Resources.of([volume]))

    exit = await house.engine.wait("c1")

    watching.cancel()
    assert exit.limitation is not None
    assert exit.limitation.message.endswith("exceeds quota (5MB)")
