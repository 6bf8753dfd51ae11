"""Containers of images, through an agent as a process."""

import asyncio
import gzip
import hashlib
import io
import json
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.netns.agent.house import eventually
from tests.netns.agent.lead import Lead
from tests.netns.agent.node import Agent, output, shell

from phalanx.agent.cleanup import remove_all
from phalanx.mesos.v1.mesos import (
    TaskInfo,
    TaskState,
)


@pytest.fixture
async def layered_runtime(agent: Agent) -> AsyncIterator[Path]:
    """An overlay, which can't carry another one, as the agent's runtime directory."""
    for name in ("lower", "upper", "overlay-work", "runtime"):
        (agent.base / name).mkdir()
    parts = {"lowerdir": "lower", "upperdir": "upper", "workdir": "overlay-work"}
    options = ",".join(f"{key}={agent.base / name}" for key, name in parts.items())
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(agent.runtime)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        yield agent.runtime
    finally:
        if agent.process is not None:
            await agent.end(signal.SIGKILL)
        remove_all(agent.runtime, agent.cgroups)
        await asyncio.to_thread(subprocess.run, ["umount", str(agent.runtime)], check=True)


PROGRAMS = ("sh", "cat", "ls", "env", "pwd", "touch", "sleep", "echo", "rm")


def host_files() -> dict[str, bytes]:
    """A few programs of this machine with their libraries, as the files of an image."""
    paths = {f"/bin/{name}" for name in PROGRAMS}
    for path in tuple(paths):
        told = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        paths |= {word for word in told.split() if word.startswith("/")}
    return {path.lstrip("/"): Path(path).read_bytes() for path in paths}


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar archive of programs."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def image_archive(*layers: dict[str, bytes], is_oci: bool = False, **config: object) -> bytes:
    """An image of layers, as ``docker save`` writes it or as a tar of an OCI layout."""
    packed = [tar_of(layer) for layer in layers]
    digests = [f"sha256:{digest_of(layer)}" for layer in packed]
    content = json.dumps({"config": config, "rootfs": {"type": "layers", "diff_ids": digests}})
    if not is_oci:
        names = [f"{number}/layer.tar" for number in range(len(packed))]
        manifest = [{"Config": "c.json", "RepoTags": None, "Layers": names}]
        files = dict(zip(names, packed, strict=True))
        files |= {"c.json": content.encode(), "manifest.json": json.dumps(manifest).encode()}
        return tar_of(files)
    blobs = [content.encode(), *(gzip.compress(layer) for layer in packed)]
    descriptors = [{"digest": f"sha256:{digest_of(blob)}"} for blob in blobs]
    manifest_blob = json.dumps({"config": descriptors[0], "layers": descriptors[1:]}).encode()
    index = {"manifests": [{"digest": f"sha256:{digest_of(manifest_blob)}"}]}
    files = {f"blobs/sha256/{digest_of(blob)}": blob for blob in (*blobs, manifest_blob)}
    return gzip.compress(tar_of({**files, "index.json": json.dumps(index).encode()}))


TWO_LAYERS = ({"data/old": b"old", "data/kept": b"kept"}, {"data/.wh.old": b"", "data/new": b"new"})


def in_image(name: str, image: str, script: str, **more: Any) -> TaskInfo:
    asked = {"type": "DOCKER", "docker": {"name": image}}
    return shell(name, script, container={"type": "MESOS", "mesos": {"image": asked}}, **more)


@pytest.mark.parametrize(
    "is_oci", [pytest.param(False, id="docker-save"), pytest.param(True, id="oci")]
)
async def test_a_container_of_an_image_has_its_files_and_not_the_hosts(
    lead: Lead, ready: Agent, is_oci: bool
) -> None:
    archive = image_archive(host_files(), *TWO_LAYERS, is_oci=is_oci, Env=["A=1", "B=1"])
    (ready.images / "team").mkdir()
    (ready.images / "team" / "tools:1.tar").write_bytes(archive)
    script = "echo $(ls /data); echo $A$B; pwd; echo $MESOS_SANDBOX; ls /usr /home; touch here"
    environment = {"variables": [{"name": "B", "value": "2"}]}
    command = {"value": script, "environment": environment}
    await lead.run_task(in_image("image", "team/tools:1", "", command=command))

    await lead.reached("image", TaskState.TASK_FINISHED)

    words = output(ready, "image").split()
    assert words == ["kept", "new", "12", "/mnt/mesos/sandbox", "/mnt/mesos/sandbox"]


async def test_an_image_that_is_not_there_is_named_with_where_it_was_looked_for(
    lead: Lead, ready: Agent
) -> None:
    await lead.run_task(in_image("image", "nginx", "true"))

    end = await lead.reached("image", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert f"image 'nginx': neither {ready.images}/nginx:latest.tar nor" in (end.message or "")


async def test_an_archive_that_is_no_image_is_said_to_be_none(lead: Lead, ready: Agent) -> None:
    (ready.images / "junk.tar").write_bytes(b"not an archive" * 100)
    await lead.run_task(in_image("image", "junk", "true"))

    end = await lead.reached("image", TaskState.TASK_FAILED)

    assert f"image 'junk': {ready.images}/junk.tar: is no image" in (end.message or "")


async def test_containers_of_an_image_share_it_and_nothing_that_they_write(
    lead: Lead, ready: Agent
) -> None:
    (ready.images / "tools.tar").write_bytes(image_archive(host_files(), *TWO_LAYERS))
    script = "echo $MESOS_TASK_ID > /data/new; rm /data/kept; touch /mine; echo $(ls /data /mine*)"
    for name in ("one", "two"):
        await lead.run_task(in_image(name, "tools", script))

    for name in ("one", "two"):
        await lead.reached(name, TaskState.TASK_FINISHED)
        assert output(ready, name).split() == ["/mine", "/data:", "new"]
    [stored] = (ready.base / "work" / "store" / "docker").iterdir()
    assert (stored / "rootfs" / "data" / "new").read_bytes() == b"new"
    assert (stored / "rootfs" / "data" / "kept").exists()
    assert not (stored / "rootfs" / "mine").exists()
    await eventually(lambda: not ready.run_directories())


async def test_another_user_may_use_an_image(lead: Lead, ready: Agent) -> None:
    (ready.images / "tools.tar").write_bytes(image_archive(host_files(), *TWO_LAYERS))
    command = {"value": "cat /data/new; touch mine; ls; touch /data/x", "user": "nobody"}
    await lead.run_task(in_image("user", "tools", "", command=command))

    end = await lead.reached("user", TaskState.TASK_FAILED)

    assert end.message == "Command exited with status 1"
    assert output(ready, "user").split() == ["newmine", "stderr", "stdout"]


async def test_what_an_image_runs_is_run_where_it_says(lead: Lead, ready: Agent) -> None:
    archive = image_archive(
        host_files(), Entrypoint=["/bin/echo", "from"], Cmd=["cmd"], WorkingDir="/srv/work"
    )
    (ready.images / "app.tar").write_bytes(archive)
    bare = {"shell": False}
    await lead.run_task(in_image("cmd", "app", "", command=bare))
    await lead.run_task(in_image("args", "app", "", command={**bare, "arguments": ["args"]}))
    await lead.run_task(in_image("pwd", "app", "pwd"))

    for name, words in (("cmd", "from cmd\n"), ("args", "from args\n"), ("pwd", "/srv/work\n")):
        await lead.reached(name, TaskState.TASK_FINISHED)
        assert output(ready, name) == words


async def test_an_image_without_a_shell_runs_its_program(lead: Lead, ready: Agent) -> None:
    files = {name: content for name, content in host_files().items() if name != "bin/sh"}
    (ready.images / "bare.tar").write_bytes(image_archive(files, Entrypoint=["/bin/cat"]))
    # Made by runc in the layer of the container, since the image has none.
    asked = {"shell": False, "arguments": ["/etc/hosts"]}
    await lead.run_task(in_image("bare", "bare", "", command=asked))
    await lead.run_task(in_image("shell", "bare", "true"))

    await lead.reached("bare", TaskState.TASK_FINISHED)
    refused = await lead.reached("shell", TaskState.TASK_FAILED)

    assert output(ready, "bare") == Path("/etc/hosts").read_text()
    assert "the image has no /bin/sh" in (refused.message or "")


async def test_a_container_of_an_image_outlives_its_agent_and_leaves_nothing(
    lead: Lead, ready: Agent
) -> None:
    (ready.images / "tools.tar").write_bytes(image_archive(host_files()))
    await lead.run_task(in_image("stays", "tools", "touch /mine; sleep 1000"))
    await lead.run_task(in_image("goes", "tools", "sleep 1000"))
    await lead.reached("stays", TaskState.TASK_RUNNING)
    await lead.reached("goes", TaskState.TASK_RUNNING)
    assert "overlay" not in own_mounts(ready)

    await ready.end(signal.SIGKILL)
    await ready.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)
    await lead.kill_task("goes")

    await lead.reached("goes", TaskState.TASK_KILLED)
    await eventually(lambda: len(ready.run_directories()) == 1)
    assert lead.states("stays")[-1] == "RUNNING"
    await ready.end(signal.SIGKILL)
    remove_all(ready.runtime, ready.cgroups)
    assert own_mounts(ready) == ""
    assert not ready.run_directories()


async def test_an_overlay_that_the_kernel_refuses_is_told_in_its_words(
    lead: Lead, agent: Agent, layered_runtime: Path
) -> None:
    await agent.start(lead.port)
    await lead.until(lambda: lead.subscribes)
    (agent.images / "tools.tar").write_bytes(image_archive(host_files()))
    await lead.run_task(in_image("refused", "tools", "true"))

    end = await lead.reached("refused", TaskState.TASK_FAILED)

    assert end.reason == "REASON_CONTAINER_LAUNCH_FAILED"
    assert "image 'tools': " in (end.message or "")
    assert "overlay" in (end.message or "")
    assert str(layered_runtime) in (end.message or "")
    await eventually(lambda: not agent.run_directories())


async def test_an_extraction_cut_short_is_removed_by_the_next_agent(
    lead: Lead, ready: Agent
) -> None:
    # So many that it is still under way whenever we come to see that it has begun.
    many = {f"many/{number}": b"" for number in range(ENTRIES)}
    layers = (host_files(), {"zeros": b"", **many})
    # In a thread: an agent whose master says nothing for 4 s looks for another.
    archive = await asyncio.to_thread(image_archive, *layers)
    (ready.images / "large.tar").write_bytes(archive)
    store = ready.base / "work" / "store" / "docker"
    await lead.run_task(in_image("large", "large", "true"))
    await eventually(lambda: list(store.glob(".new-*/rootfs/zeros")))

    await ready.end(signal.SIGKILL)
    [left] = store.iterdir()
    await ready.start(lead.port)

    end = await lead.reached("large", TaskState.TASK_FAILED)
    assert end.reason == "REASON_AGENT_RESTARTED"
    assert left.name.startswith(".new-")
    assert not list(store.iterdir())
    await lead.run_task(in_image("again", "large", "ls zeros /zeros"))
    await lead.reached("again", TaskState.TASK_FAILED)
    assert output(ready, "again") == "/zeros\n"


ENTRIES = 3_000


def own_mounts(agent: Agent) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if str(agent.base) in line)
