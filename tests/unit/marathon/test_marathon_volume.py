"""Volumes: of storage providers, on disks of their own, and of pods; who may use one twice."""

import json
from random import Random
from typing import Any

import msgspec
import pytest
from tests.unit.marathon.conftest import FakeMaster, Marathon, make_offer

from phalanx.core.error import InvalidError
from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.definition.pod import parse_pod
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.definition.render import render_app, render_pod
from phalanx.marathon.model.app import App
from phalanx.marathon.model.group import Root
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.match import Placement, Reason, matching
from phalanx.marathon.schedule.planning import planned
from phalanx.marathon.schedule.residency import Circumstances, divided, freeing
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.codec import encode, from_json
from phalanx.mesos.v1.scheduler import Event, Offers

AROUND = Circumstances(now=1.0, framework_id="fw", identity=lambda: "u1")
EXTERNAL: dict[str, Any] = {
    "name": "data",
    "size": 5,
    "options": {"dvdi/driver": "rexray", "dvdi/iops": "100", "note": "not the driver's"},
}


def resident(*volumes: dict[str, Any], **more: Any) -> App:
    """Return an app with persistent volumes."""
    container = {
        "volumes": [
            {"containerPath": f"d{index}", "persistent": volume}
            for index, volume in enumerate(volumes)
        ]
    }
    raw = {"id": "/prod/db", "cmd": "x", "cpus": 0.5, "mem": 64, "role": "prod"}
    return parse_app({**raw, "portDefinitions": [], "container": container, **more})


def disk(kind: str, root: str, size: float, profile: str | None = None) -> mesos.Resource:
    """Return a disk of its own, as an agent offers it."""
    source: dict[str, Any] = {"type": kind.upper(), kind: {"root": root}}
    if profile is not None:
        source["profile"] = profile
    raw = {"name": "disk", "type": "SCALAR", "scalar": {"value": size}, "disk": {"source": source}}
    return from_json(mesos.Resource, raw)


def offer_with(*resources: mesos.Resource) -> mesos.Offer:
    """Return an offer that has *resources* beside the usual ones."""
    plain = make_offer("a1", role="prod")
    return msgspec.structs.replace(plain, resources=(*plain.resources, *resources))


def placed(spec: Spec, *resources: mesos.Resource) -> Placement | Reason:
    """Match one instance of *spec* against an offer with *resources*."""
    instance = Instance(id="prod_db.instance-1", app_id=spec.id, version="v", since=0)
    found = matching([offer_with(*resources)], [(spec, instance)], {}, Random(1), AROUND)
    return found.placements[0] if found.placements else found.rejections[0].reason


def created(placement: Placement | Reason) -> list[tuple[str, float]]:
    """Return the root and the size of each disk on which a volume is created."""
    assert isinstance(placement, Placement), placement
    create = placement.keep[1].create
    assert create is not None
    found = []
    for volume in create.volumes:
        assert volume.disk is not None
        assert volume.scalar is not None
        source = volume.disk.source
        place = None if source is None else source.mount or source.path
        found.append((str(place and place.root), volume.scalar.value))
    return found


SMALL, LARGE = disk("mount", "/mnt/small", 100), disk("mount", "/mnt/large", 1000)
SHARED = disk("path", "/mnt/shared", 500)
FAST = disk("mount", "/mnt/fast", 400, profile="fast")


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        pytest.param([{"size": 50, "type": "mount"}], [("/mnt/small", 100)], id="smallest"),
        pytest.param([{"size": 200, "type": "mount"}], [("/mnt/large", 1000)], id="large-enough"),
        pytest.param([{"size": 50, "type": "mount", "maxSize": 90}], Reason.DISK, id="all-larger"),
        pytest.param([{"size": 200, "type": "mount", "maxSize": 999}], Reason.DISK, id="too-large"),
        pytest.param([{"size": 10, "type": "mount"}] * 3, Reason.DISK, id="whole-disks"),
        pytest.param([{"size": 10, "type": "mount"}, {"size": 10, "type": "mount"}],
                     [("/mnt/small", 100), ("/mnt/large", 1000)], id="one-each"),
        pytest.param([{"size": 10, "type": "mount"},
                      {"size": 10, "type": "mount", "constraints": [["path", "LIKE", ".*small"]]}],
                     [("/mnt/large", 1000), ("/mnt/small", 100)], id="least-choice-first"),
        pytest.param([{"size": 9, "type": "mount", "constraints": [["path", "UNLIKE", ".*small"]]}],
                     [("/mnt/large", 1000)], id="unlike"),
        pytest.param([{"size": 200, "type": "path"}, {"size": 300, "type": "path"}],
                     [("/mnt/shared", 200), ("/mnt/shared", 300)], id="path-is-divided"),
        pytest.param([{"size": 300, "type": "path"}] * 2, Reason.DISK, id="path-is-used-up"),
        pytest.param([{"size": 50, "profileName": "fast"}], [("/mnt/fast", 400)], id="profile"),
        pytest.param([{"size": 50, "profileName": "slow"}], Reason.DISK, id="no-such-profile"),
        pytest.param([{"size": 50}, {"size": 50, "type": "path"}],
                     [("None", 50), ("/mnt/shared", 50)], id="root-and-path"),
        pytest.param([{"size": 20_000}], Reason.DISK, id="root-too-small"),
    ],
)  # fmt: skip
def test_volume_goes_to_a_disk_of_its_type(
    volumes: list[dict[str, Any]], expected: list[tuple[str, float]] | Reason
) -> None:
    found = placed(resident(*volumes), LARGE, SHARED, FAST, SMALL)

    assert (found if isinstance(found, Reason) else created(found)) == expected


def test_what_is_reserved_on_a_disk_is_what_is_freed_again() -> None:
    found = placed(resident({"size": 50, "type": "mount"}), SMALL)
    assert isinstance(found, Placement)
    reserve, create = (operation for operation in found.keep)
    assert reserve.reserve is not None
    assert create.create is not None
    reserved = Resources.of(reserve.reserve.resources)
    kept = reserved.where(lambda kind: kind.source is None) + Resources.of(create.create.volumes)

    destroy, unreserve = freeing(kept, "prod")

    assert destroy.destroy is not None
    assert unreserve.unreserve is not None
    assert Resources.of(destroy.destroy.volumes) == Resources.of(create.create.volumes)
    assert Resources.of(unreserve.unreserve.resources) == reserved


@pytest.mark.parametrize(
    ("persistent", "key"),
    [
        ({"size": 1, "type": "raid"}, "type"),
        ({"size": 1, "maxSize": 5}, "maxSize"),
        ({"size": 5, "type": "mount", "maxSize": 5}, "maxSize"),
        ({"size": 5, "type": "path", "profileName": "x"}, "profileName"),
        ({"size": 5, "constraints": [["path", "LIKE", "x"]]}, "constraints"),
        ({"size": 5, "type": "path", "constraints": [["path", "LIKE"]]}, "constraints(0)"),
        ({"size": 5, "type": "path", "constraints": [["path", "UNIQUE", "x"]]}, "constraints(0)"),
        ({"size": 5, "type": "path", "constraints": [["path", "LIKE", "("]]}, "constraints(0)"),
    ],
)
def test_bad_persistent_volume_is_refused(persistent: dict[str, Any], key: str) -> None:
    with pytest.raises(DefinitionError) as of_app:
        resident(persistent)
    with pytest.raises(DefinitionError) as of_pod:
        parse_pod({**POD, "volumes": [{"name": "data", "persistent": persistent}]})

    assert f"/container/volumes(0)/persistent/{key}" in paths(of_app.value)
    assert f"/volumes(0)/persistent/{key}" in paths(of_pod.value)


def paths(error: DefinitionError) -> list[str]:
    return [problem.path for problem in error.problems]


# Storage providers


def with_external(kind: str = "MESOS", **more: Any) -> dict[str, Any]:
    """Return an app with an external volume."""
    container: dict[str, Any] = {
        "type": kind,
        "volumes": [{"containerPath": "/data", "external": {**EXTERNAL, **more}}],
    }
    if kind == "DOCKER":
        container["docker"] = {"image": "i"}
    return {"id": "/a", "cmd": "x", "portDefinitions": [], "container": container}


@pytest.mark.parametrize("kind", ["MESOS", "DOCKER"])
def test_external_volume_is_a_volume_of_its_driver(kind: str) -> None:
    raw = with_external(kind, **({"size": None} if kind == "DOCKER" else {}))
    found = placed(parse_app(raw))
    assert found is Reason.ROLE
    app = parse_app({**raw, "id": "/prod/a", "role": "prod"})
    found = placed(app)
    assert isinstance(found, Placement)
    wire = json.loads(encode(found.task))

    options = {"iops": "100", **({"size": "5"} if kind == "MESOS" else {})}
    assert wire["container"]["volumes"] == [
        {
            "mode": "RW",
            "container_path": "/data",
            "source": {
                "type": "DOCKER_VOLUME",
                "docker_volume": {
                    "driver": "rexray",
                    "name": "data",
                    "driver_options": {
                        "parameter": [{"key": k, "value": v} for k, v in options.items()]
                    },
                },
            },
        }
    ]


def test_app_with_an_external_volume_has_its_own_upgrade_strategy_and_can_be_sent_back() -> None:
    app = parse_app(with_external())

    shown = render_app(app)

    assert shown["upgradeStrategy"] == {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}
    assert shown["unreachableStrategy"] == {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}
    assert shown["container"]["volumes"] == [
        {
            "containerPath": "/data",
            "mode": "RW",
            "external": {**EXTERNAL, "provider": "dvdi", "shared": False},
        }
    ]
    assert parse_app(shown) == app


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (with_external(name=""), "/container/volumes(0)/external/name"),
        (with_external(provider="nfs"), "/container/volumes(0)/external/provider"),
        (with_external(options={}), "/container/volumes(0)/external/options"),
        (with_external(size=0), "/container/volumes(0)/external/size"),
        ({**with_external(), "instances": 2}, "/instances"),
        ({**with_external(), "upgradeStrategy": {"maximumOverCapacity": 1}},
         "/upgradeStrategy/maximumOverCapacity"),
        (with_external("DOCKER"), "/container/volumes"),
    ],
)  # fmt: skip
def test_bad_external_volume_is_refused(raw: dict[str, Any], path: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_app(raw)

    assert path in paths(caught.value)


def with_data(**shared: bool) -> dict[str, App]:
    """Return apps that use one external volume, in the order and as shared as told."""
    return {
        f"/{name}": parse_app({**with_external(shared=one), "id": f"/{name}"})
        for name, one in shared.items()
    }


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("shared", [(False, False), (False, True), (True, False)])
def test_external_volume_is_one_apps_unless_all_share_it(
    order: str, shared: tuple[bool, bool]
) -> None:
    is_shared = dict(zip("ab", shared, strict=True))
    apps = with_data(**{name: is_shared[name] for name in order})
    before = Root({"/a": apps["/a"]}, {})

    with pytest.raises(InvalidError, match="/b: Requested volume data is already in use by /a"):
        planned(before, Root(apps, {}), id="d", version="v")


def test_external_volume_that_all_share_may_have_many_apps() -> None:
    apps = with_data(a=True, b=True)

    plan = planned(Root({"/a": apps["/a"]}, {}), Root(apps, {}), id="d", version="v")

    assert [change.app_id for change in plan.changes] == ["/b"]


def test_second_use_of_a_volume_holds_up_no_other_app() -> None:
    other = {"/c": parse_app({**with_external(name="other"), "id": "/c"})}
    before = with_data(a=False, b=False)  # as an older Marathon may have let them

    plan = planned(Root(before, {}), Root({**before, **other}, {}), id="d", version="v")

    assert [change.app_id for change in plan.changes] == ["/c"]


def test_shared_external_volume_may_have_many_instances() -> None:
    app = parse_app({**with_external(shared=True), "instances": 3})

    assert app.instances == 3


# Pods

POD: dict[str, Any] = {
    "id": "/prod/pair",
    "role": "prod",
    "volumes": [{"name": "data", "persistent": {"size": 100}}, {"name": "tmp"}],
    "containers": [
        {
            "name": name,
            "exec": {"command": {"shell": "x"}},
            "resources": {"cpus": cpus, "mem": 32, "disk": 5},
            "endpoints": [{"name": f"p-{name}", "hostPort": 0}],
            "volumeMounts": [
                {"name": "data", "mountPath": "data"},
                {"name": "tmp", "mountPath": "tmp"},
            ],
        }
        for name, cpus in (("one", 0.1), ("two", 0.2))
    ],
}


def test_pod_with_volumes_has_its_own_defaults() -> None:
    pod = parse_pod(POD)

    shown = render_pod(pod)

    assert shown["scheduling"]["upgrade"] == {
        "minimumHealthCapacity": 0.5,
        "maximumOverCapacity": 0,
    }
    assert shown["scheduling"]["unreachableStrategy"] == "disabled"
    assert parse_pod(shown) == pod


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"role": "*"}, "/role"),
        ({"scheduling": {"upgrade": {"maximumOverCapacity": 1}}},
         "/scheduling/upgrade/maximumOverCapacity"),
        ({"scheduling": {"placement": {"acceptedResourceRoles": ["*", "prod"]}}},
         "/scheduling/placement/acceptedResourceRoles"),
    ],
)  # fmt: skip
def test_bad_pod_with_volumes_is_refused(more: dict[str, Any], path: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_pod({**POD, **more})

    assert path in paths(caught.value)


async def test_pods_volume_is_reserved_then_used_by_every_incarnation(
    marathon: Marathon, master: FakeMaster
) -> None:
    status, answer = await marathon.ask("POST", "/v2/pods", POD)
    assert status == 201, answer
    await master.next("REVIVE")
    await master.send(Event(type="OFFERS", offers=Offers(offers=(offer_with(),))))
    accept = (await master.next("ACCEPT")).accept
    assert accept is not None
    reserve, create = accept.operations
    assert reserve.reserve is not None
    assert create.create is not None
    reserved = Resources.of(reserve.reserve.resources)
    # 0.1 CPU, 32 MiB and 10 MiB of disk are the executor's.
    assert reserved.scalars == {"cpus": 400, "mem": 96_000, "disk": 120_000}
    volumes = Resources.of(create.create.volumes)
    plain = msgspec.structs.replace(create.create.volumes[0], disk=None)
    kept = (reserved - Resources.of([plain])) + volumes

    back = offer_with(*kept.messages(role="prod"))
    await master.send(Event(type="OFFERS", offers=Offers(offers=(back,))))
    tasks = await master.tasks(2)
    [group] = master.groups()
    assert group.executor is not None
    of_executor = Resources.of(group.executor.resources)
    assert of_executor.volumes == volumes
    assert of_executor.scalars == {"cpus": 100, "mem": 32_000, "disk": 110_000}
    of_tasks = [Resources.of(task.resources) for task in tasks]
    assert [found.scalars["cpus"] for found in of_tasks] == [100, 200]
    assert all(found.reserved.scalars == found.scalars for found in of_tasks)
    assert all("ports" in found.ranges for found in of_tasks)
    container = tasks[0].container
    assert container is not None
    assert [volume.source.sandbox_path for volume in container.volumes if volume.source] == [
        mesos.SandboxPath(type="PARENT", path="data"),
        mesos.SandboxPath(type="PARENT", path="tmp"),
    ]

    for task in tasks:
        await master.update(task, "TASK_RUNNING")
    shown = await marathon.until(
        "/v2/pods/prod/pair::status", lambda pod: pod["status"] == "STABLE"
    )
    [volume] = shown["instances"][0]["localVolumes"]
    assert (volume["containerPath"], volume["runSpecId"]) == ("data", "/prod/pair")

    seen = len(master.of("REVIVE"))
    for task in tasks:
        await master.update(task, "TASK_FAILED")
    await master.next("REVIVE", seen=seen)
    await marathon.ask("DELETE", "/v2/queue/prod/pair/delay")
    for volume_or_not in (kept - volumes, divided(kept, {"cpus": 300})[1]):
        seen = len(master.of("DECLINE"))  # what came back by now is neither used nor freed
        part = offer_with(*volume_or_not.messages(role="prod"))
        await master.send(Event(type="OFFERS", offers=Offers(offers=(part,))))
        await master.next("DECLINE", seen=seen)
    assert len(master.of("ACCEPT")) == 2
    await master.send(Event(type="OFFERS", offers=Offers(offers=(back,))))
    again = (await master.tasks(4))[2:]
    assert {task.agent_id for task in again} == {tasks[0].agent_id}
    assert Resources.of(master.groups()[1].executor.resources).volumes == volumes


async def test_what_a_pod_has_reserved_can_not_be_changed(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/pods", POD)
    larger = {**POD, "executorResources": {"cpus": 1}}

    status, answer = await marathon.ask("PUT", "/v2/pods/prod/pair?force=true", larger)

    assert (status, "/prod/pair" in answer["message"]) == (422, True)
