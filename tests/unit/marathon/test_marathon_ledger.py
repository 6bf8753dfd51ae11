"""The ledger over a store, and the daemon around it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError, UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.marathon.app import main, run
from phalanx.marathon.config import LOADER
from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.ledger.ledger import MAX_VERSIONS, Failure, Ledger
from phalanx.marathon.model.app import App
from phalanx.marathon.model.deployment import Action, ActionKind, Change, Deployment
from phalanx.marathon.model.instance import Condition, Instance, Launched
from phalanx.marathon.schedule.planning import stamped

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.marathon.conftest import FakeMaster


def version_of(number: int) -> str:
    """Return a version; larger numbers are newer."""
    return f"2021-01-01T00:00:{number:02d}.000Z"


def app_of(number: int, cmd: str = "x") -> App:
    """Return an app of one version."""
    return stamped(None, parse_app({"id": "/a/b", "cmd": cmd}), version_of(number))


def deployment(number: int, before: App | None, after: App | None) -> Deployment:
    """Return a deployment of one change."""
    return Deployment(
        id=f"d{number}",
        version=version_of(number),
        changes=(Change("/a/b", before, after),),
        steps=((Action(ActionKind.SCALE, "/a/b"),),),
    )


async def reloaded(store: MemoryStore) -> Ledger:
    """Return a new ledger over the same store."""
    ledger = Ledger(store)
    await ledger.load()
    return ledger


def launched(number: int) -> Instance:
    """Return an instance that has a task."""
    task = Launched(agent_id="a", hostname="h", agent_ip="198.18.0.1", staged_at=1.0)
    return Instance(
        id=f"a_b.instance-{number}",
        app_id="/a/b",
        version=version_of(1),
        since=1.0,
        condition=Condition.RUNNING,
        launched=task,
    )


async def test_everything_is_there_again_after_a_restart() -> None:
    store = MemoryStore()
    ledger = await reloaded(store)
    failure = Failure("/a/b", "h", "m", "TASK_FAILED", "t", version_of(1), version_of(1), "s")
    plan = deployment(1, None, app_of(1))
    await ledger.put_framework_id("f-1")
    await ledger.put_deployment(plan, is_new=True)
    await ledger.put_instance(launched(1))
    await ledger.put_failure(failure)

    again = await reloaded(store)

    assert again.framework_id == "f-1"
    assert again.apps == {"/a/b": app_of(1)}
    assert again.deployments == {"d1": plan}
    assert again.instances() == [launched(1)]
    assert again.failures == {"/a/b": failure}


async def test_deployment_stored_before_its_app_is_applied_on_load() -> None:
    store = MemoryStore()
    plan = deployment(1, None, app_of(1))
    await store.put("deployments/d1", msgspec.json.encode(plan))

    ledger = await reloaded(store)

    assert ledger.apps == {"/a/b": app_of(1)}
    assert await ledger.versions("/a/b") == [version_of(1)]


async def test_older_deployment_does_not_undo_a_newer_app() -> None:
    store = MemoryStore()
    ledger = await reloaded(store)
    await ledger.put_deployment(deployment(1, None, app_of(1)), is_new=True)
    await ledger.put_deployment(deployment(2, app_of(1), app_of(2, "y")), is_new=True)

    again = await reloaded(store)

    assert again.apps["/a/b"].cmd == "y"


@pytest.mark.parametrize("kind", ["apps", "instances", "deployments", "failures"])
async def test_a_row_that_cannot_be_read_is_named_and_nobody_leads_without_it(kind: str) -> None:
    store = MemoryStore()
    await store.put(f"{kind}/a_b", b'{"of":"another version"}')

    with pytest.raises(UnavailableError, match=f"{kind}/a_b can't be read"):
        await Ledger(store).load()


async def test_instance_that_waits_is_not_stored() -> None:
    store = MemoryStore()
    ledger = await reloaded(store)
    running = launched(1)
    await ledger.put_instance(running)
    waiting = msgspec.structs.replace(
        running, condition=Condition.SCHEDULED, launched=None, incarnation=2
    )

    await ledger.put_instance(waiting)

    assert ledger.instances() == [waiting]
    assert (await reloaded(store)).instances() == []


async def test_removed_app_leaves_nothing() -> None:
    store = MemoryStore()
    ledger = await reloaded(store)
    await ledger.put_deployment(deployment(1, None, app_of(1)), is_new=True)
    await ledger.put_deployment(deployment(2, app_of(1), None), is_new=True)
    for name in ("d1", "d2"):
        await ledger.remove_deployment(name)

    assert ledger.apps == {}
    for prefix in ("apps", "versions", "failures", "deployments"):
        assert await store.list(prefix) == {}


async def test_only_the_newest_versions_are_kept() -> None:
    ledger = await reloaded(MemoryStore())
    before = None
    for number in range(MAX_VERSIONS + 3):
        after = app_of(number)
        await ledger.put_deployment(deployment(number, before, after), is_new=True)
        before = after

    versions = await ledger.versions("/a/b")

    assert len(versions) == MAX_VERSIONS
    assert versions[0] == version_of(MAX_VERSIONS + 2)
    assert await ledger.version("/a/b", version_of(0)) is None
    assert await ledger.version("/a/b", versions[0]) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--work-dir", "/nowhere"], "--master: is required"),
        (["--work-dir", "/nowhere", "--master", "m1"], "--master: 'm1'"),
        (["--work-dir", "/nowhere", "--master", ""], "--master: '': names no master"),
        (["--work-dir", "/nowhere", "--master", "m:1", "--http-port", "99999"], "--http-port: 99"),
        (["--work-dir", "/nowhere", "--master", "m:1", "--log-level", "loud"], "'loud'"),
    ],
)
def test_bad_setting_is_named_and_ends_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


async def test_taken_port_is_a_configuration_error(master: FakeMaster, tmp_path: Path) -> None:
    arguments = ["--master", str(master.address), "--work-dir", str(tmp_path)]
    arguments += ["--http-address", "127.0.0.1", "--http-port", str(master.address.port)]

    with pytest.raises(ConfigError, match=r"listen: 127\.0\.0\.1"):
        await run(LOADER.load(arguments, {}))


async def test_daemon_runs_and_ends_cleanly_on_sigterm(master: FakeMaster, tmp_path: Path) -> None:
    program = "import sys; from phalanx.marathon.app import main; sys.exit(main(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-Ic", program),
        *("--master", str(HostPort("127.0.0.1", master.address.port))),
        *("--work-dir", str(tmp_path), "--http-address", "127.0.0.1", "--http-port", "0"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        subscribe = await master.subscribed()
        os.kill(process.pid, signal.SIGTERM)
        _, told = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()

    assert process.returncode == 0
    assert b'"event": "listening"' in told
    assert b'"event": "stopped"' in told
    assert subscribe.subscribe is not None
    info = subscribe.subscribe.framework_info
    assert (info.name, info.roles, info.checkpoint) == ("marathon", ("*",), True)
    assert info.failover_timeout == 604800.0
    assert {capability.type for capability in info.capabilities} == {
        "PARTITION_AWARE",
        "MULTI_ROLE",
        "TASK_KILLING_STATE",
        "REGION_AWARE",
        "GPU_RESOURCES",
    }
    assert master.of("TEARDOWN") == []
