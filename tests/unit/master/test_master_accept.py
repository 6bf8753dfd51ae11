"""What an ACCEPT comes to: operations in order, each against what those before it left."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.core.error import InvalidError
from phalanx.master.scheduler.accept import (
    Convert,
    Outcome,
    Run,
    RunGroup,
    dropped,
    failed,
    outcome,
)
from phalanx.master.scheduler.bench import Bench
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import FrameworkInfo, Operation, Resource, TaskStatus

Json = dict[str, object]
AVAILABLE = Resources.parse("cpus:2;mem:512;disk:100;ports:[31000-31009]")
LABEL = "agent a1 at slave(1)@198.18.0.2:5051 (a1)"


def bench(available: Resources = AVAILABLE, **more: object) -> Bench:
    fields: dict[str, object] = {
        "agent_id": "a1",
        "role": "web",
        "available": available,
        "taken_ids": {"live"},
        "unreachable_ids": (),
        "framework_id": "f",
        "label": LABEL,
        "total": available,
        "roles": ("web",),
    }
    return Bench(**(fields | more))  # type: ignore[arg-type]  # fields by name


def scalar(name: str, value: float, **more: object) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def reserved(name: str, value: float, *roles: str, **more: object) -> Json:
    steps = [{"type": "DYNAMIC", "role": role} for role in roles or ("web",)]
    return scalar(name, value, reservations=steps, **more)


def volume(value: float = 10, id: str = "v", **more: object) -> Json:
    used = {"container_path": "p", "mode": "RW"}
    return reserved("disk", value, disk={"persistence": {"id": id}, "volume": used}, **more)


def task(id: str, *resources: Json, **more: object) -> Json:
    return {
        "name": "web",
        "task_id": {"value": id},
        "agent_id": {"value": "a1"},
        "resources": list(resources) or [scalar("cpus", 1), scalar("mem", 128)],
        "command": {"value": "sleep 1"},
        **more,
    }


def launch(*tasks: Json, **more: object) -> Json:
    return {"type": "LAUNCH", "launch": {"task_infos": list(tasks)}, **more}


def group(executor: Json, *tasks: Json, **more: object) -> Json:
    body = {"executor": executor, "task_group": {"tasks": list(tasks)}}
    return {"type": "LAUNCH_GROUP", "launch_group": body, **more}


def named(kind: str, id: str = "op", **body: object) -> Json:
    return {"type": kind, "id": {"value": id}, kind.lower(): body}


EXECUTOR: Json = {
    "type": "DEFAULT",
    "executor_id": {"value": "e"},
    "resources": [scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 10)],
}


def accepted(*operations: Json, on: Bench | None = None) -> Outcome:
    parsed = [from_json(Operation, operation) for operation in operations]
    return outcome(parsed, on or bench(), wall=1.0)


def launched(result: Outcome) -> list[str]:
    return [item.task_id.value for item in result.launches]


def refused(result: Outcome) -> list[tuple[str, str]]:
    return [(status.task_id.value, status.reason or "") for status in result.refusals]


def failure(result: Outcome) -> str:
    [status] = result.failures
    assert (status.state, status.uuid) == ("OPERATION_ERROR", None)
    return status.message or ""


# Tasks


def test_a_bad_task_does_not_hold_up_the_others() -> None:
    result = accepted(launch(task("t1"), task("live"), task("t2")))

    assert launched(result) == ["t1", "t2"]
    assert refused(result) == [("live", "REASON_TASK_INVALID")]
    assert result.unused == Resources.parse("mem:256;disk:100;ports:[31000-31009]")


def test_tasks_share_what_the_offer_has() -> None:
    result = accepted(launch(task("t1"), task("t2")), launch(task("t3")))

    assert launched(result) == ["t1", "t2"]
    assert refused(result) == [("t3", "REASON_TASK_INVALID")]


def test_one_id_is_launched_once() -> None:
    result = accepted(launch(task("t1"), task("t1")))

    assert launched(result) == ["t1"]
    assert refused(result) == [("t1", "REASON_TASK_INVALID")]


def test_role_of_the_offer_is_filled_in() -> None:
    [item] = accepted(launch(task("t1"))).launches

    roles = {item.allocation_info.role for item in item.resources if item.allocation_info}
    assert roles == {"web"}


def test_launch_has_no_id() -> None:
    result = accepted(launch(task("t1"), id={"value": "x"}))

    assert [status.message for status in result.refusals] == [
        "The `id` field cannot be set on LAUNCH operations"
    ]
    assert result.failures == ()


def test_executor_is_paid_for_once() -> None:
    custom = {"executor_id": {"value": "e"}, "command": {"value": "x"}}
    own = {"command": None, "executor": custom | {"resources": [scalar("cpus", 1)]}}

    result = accepted(
        launch(task("t1", scalar("cpus", 0.5), **own), task("t2", scalar("cpus", 0.5), **own))
    )

    assert launched(result) == ["t1", "t2"]
    assert result.unused.scalar("cpus") == 0
    executors = [item.executor for item in result.launches]
    assert executors[0] == executors[1]
    assert executors[0] is not None
    assert executors[0].framework_id is not None


# Groups


def test_group_is_launched_as_a_whole_under_one_executor() -> None:
    result = accepted(group(EXECUTOR, task("t1"), task("t2", scalar("cpus", 0.5))))

    [step] = result.steps
    assert isinstance(step, RunGroup)
    assert [item.task_id.value for item in step.tasks] == ["t1", "t2"]
    assert {item.executor for item in step.tasks} == {step.executor}
    assert result.unused == Resources.parse("cpus:0.4;mem:352;disk:90;ports:[31000-31009]")


def test_group_is_refused_as_a_whole() -> None:
    result = accepted(group(EXECUTOR, task("t1"), task("live")))

    assert result.steps == ()
    assert refused(result) == [
        ("t1", "REASON_TASK_GROUP_INVALID"),
        ("live", "REASON_TASK_GROUP_INVALID"),
    ]
    assert result.unused == AVAILABLE


def test_group_has_no_id() -> None:
    result = accepted(group(EXECUTOR, task("t1"), id={"value": "x"}))

    assert [status.message for status in result.refusals] == [
        "The `id` field cannot be set on LAUNCH_GROUP operations"
    ]


# Conversions


def test_reserve_create_launch_in_one_call() -> None:
    result = accepted(
        named("RESERVE", resources=[reserved("disk", 50), reserved("cpus", 1)]),
        named("CREATE", volumes=[volume(10)]),
        launch(task("t1", reserved("cpus", 1), volume(10))),
    )

    assert [type(step) for step in result.steps] == [Convert, Convert, Run]
    assert result.converted.scalar("disk") == 40
    assert result.unused == Resources.parse("cpus:1;mem:512;disk:50;ports:[31000-31009]")


def test_failed_operation_changes_nothing_and_later_ones_go_on() -> None:
    result = accepted(
        named("CREATE", volumes=[volume()]),
        named("RESERVE", "next", resources=[reserved("cpus", 1)]),
    )

    assert failure(result).endswith(
        "does not contain disk(allocated: web)(reservations: [(DYNAMIC,web)]):10"
    )
    assert len(result.steps) == 1


def test_refusals_are_told_in_the_order_of_the_operations() -> None:
    result = accepted(
        named("CREATE", "first", volumes=[volume()]),
        launch(task("second", scalar("cpus", 1000))),
        named("CREATE", "third", volumes=[volume()]),
    )

    told = [
        status.task_id.value
        if isinstance(status, TaskStatus)
        else status.operation_id and status.operation_id.value
        for status in result.refused
    ]
    assert told == ["first", "second", "third"]


def test_operation_without_a_name_fails_in_silence() -> None:
    operation = named("CREATE", volumes=[volume()])
    del operation["id"]

    result = accepted(operation)

    assert (result.steps, result.failures, result.unused) == ((), (), AVAILABLE)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (
            named("RESERVE", resources=[scalar("cpus", 1)]),
            f"Resource cpus(allocated: web):1 is not dynamically reserved; on {LABEL}",
        ),
        (
            named("RESERVE", resources=[reserved("cpus", 1, "*")]),
            'Invalid reservation: role "*" cannot be reserved',
        ),
        (
            named("RESERVE", resources=[reserved("cpus", 1, "q")]),
            "A reserve operation was attempted for a resource with role 'q', but the resource was"
            f" allocated to role 'web'; on {LABEL}",
        ),
        (
            named("RESERVE", resources=[reserved("cpus", 9)]),
            "does not contain cpus(allocated: web):9",
        ),
        (
            named("RESERVE", resources=[reserved("cpus", 1, revocable={})]),
            "cannot be created from revocable resources",
        ),
        (
            named("RESERVE", resources=[reserved("cpus", 1)], source=[scalar("cpus", 2)]),
            "Source and target resources should refer to identical resource quantities",
        ),
        (
            named("RESERVE", resources=[]),
            "Invalid resources: The resources have multiple resource providers: ",
        ),
        (
            {"type": "RESERVE", "id": {"value": "op"}},
            "Operation attempted with invalid resources: A RESERVE offer operation must have the"
            " Offer.Operation.reserve field set.",
        ),
        (
            named("UNRESERVE", resources=[scalar("cpus", 1)]),
            "Resource cpus(allocated: web):1 is not dynamically reserved",
        ),
        (
            named("UNRESERVE", resources=[volume()]),
            "A dynamically reserved persistent volume"
            " disk(allocated: web)(reservations: [(DYNAMIC,web)])[v:p]:10 cannot be unreserved"
            " directly. Please destroy the persistent volume first then unreserve the resource",
        ),
        (
            named("CREATE", volumes=[volume() | {"reservations": []}]),
            "Invalid DiskInfo: Persistent volumes cannot be created from unreserved resources",
        ),
        (
            named("CREATE", volumes=[reserved("disk", 5)]),
            "Not a persistent volume: Resource"
            " disk(allocated: web)(reservations: [(DYNAMIC,web)]):5 does not have DiskInfo",
        ),
        (named("CREATE", volumes=[volume(), volume()]), "Persistence ID 'v' is not unique"),
        (
            named("CREATE", volumes=[volume(shared={})]),
            "Create volume operation for"
            " 'disk(allocated: web)(reservations: [(DYNAMIC,web)])[v:p]<SHARED>:10' has been"
            " attempted by framework 'f' with no SHARED_RESOURCES capability",
        ),
        (named("CREATE", volumes=[volume(id="a/b")]), "'a/b' contains invalid characters"),
        (named("DESTROY", volumes=[volume()]), "Persistent volumes not found"),
        (
            named("GROW_VOLUME", volume=volume(), addition=reserved("disk", 0)),
            "The size of 'GrowVolume.addition' field must be greater than zero",
        ),
        (
            named("GROW_VOLUME", volume=volume(), addition=scalar("disk", 5)),
            "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields",
        ),
        (
            named("GROW_VOLUME", volume=volume(), addition=reserved("disk", 5)),
            "Invalid GROW_VOLUME operation: ",
        ),
        (
            named("SHRINK_VOLUME", volume=volume(), subtract={"value": 10}),
            "Value of 'ShrinkVolume.subtract' must be smaller than the size of",
        ),
        (
            named("SHRINK_VOLUME", volume=volume(), subtract={"value": 0}),
            "Value of 'ShrinkVolume.subtract' must be greater than zero",
        ),
        (
            named("SHRINK_VOLUME", volume=reserved("disk", 5), subtract={"value": 1}),
            "Invalid persistent volume in the 'ShrinkVolume.volume' field: Resource",
        ),
        (
            named("CREATE_DISK", source=scalar("disk", 5), target_type="MOUNT"),
            "'source' is not managed by a resource provider",
        ),
        (
            named("DESTROY_DISK", source=scalar("disk", 5)),
            "'source' is not managed by a resource provider",
        ),
    ],
)
def test_operation_that_breaks_a_rule_is_told_so(operation: Json, message: str) -> None:
    assert message in failure(accepted(operation))


def resources(*messages: Json) -> Resources:
    return Resources.of(from_json(Resource, message) for message in messages)


HOLDING = AVAILABLE + resources(volume())


def test_volume_in_use_is_not_destroyed() -> None:
    used = HOLDING.volumes

    in_use = accepted(named("DESTROY", volumes=[volume()]), on=bench(HOLDING, used=used))
    free = accepted(named("DESTROY", volumes=[volume()]), on=bench(HOLDING))

    assert failure(in_use) == f"Persistent volumes in use; on {LABEL}"
    assert free.converted.scalar("disk") == 10
    assert not free.converted.volumes


def test_id_of_a_volume_is_unique_on_the_agent() -> None:
    reserve = named("RESERVE", "r", resources=[reserved("disk", 10)])

    result = accepted(reserve, named("CREATE", volumes=[volume()]), on=bench(HOLDING))

    assert failure(result) == f"Persistence ID 'v' is not unique; on {LABEL}"


def test_volume_grows_and_shrinks() -> None:
    result = accepted(
        named("RESERVE", resources=[reserved("disk", 20)]),
        named("GROW_VOLUME", volume=volume(), addition=reserved("disk", 5)),
        named("SHRINK_VOLUME", volume=volume(15), subtract={"value": 3}),
        on=bench(HOLDING),
    )

    assert result.failures == ()
    assert result.converted.volumes.scalar("disk") == 12
    assert result.converted.scalar("disk") == 30


def test_shared_volume_serves_tasks_at_once() -> None:
    result = accepted(
        named("RESERVE", resources=[reserved("disk", 10)]),
        named("CREATE", volumes=[volume(shared={})]),
        launch(
            task("t1", scalar("cpus", 1), volume(shared={})),
            task("t2", scalar("cpus", 1), volume(shared={})),
        ),
        on=bench(takes_shared=True),
    )

    assert launched(result) == ["t1", "t2"]


def test_reservation_is_refined_and_moved_to_its_source() -> None:
    held = AVAILABLE + resources(reserved("cpus", 1, "web"))
    on = bench(held, role="web/a", roles=("web/a",))
    finer = reserved("cpus", 1, "web", "web/a")

    by_default = accepted(named("RESERVE", resources=[finer]), on=on)
    by_source = accepted(
        named("RESERVE", source=[reserved("cpus", 1, "web")], resources=[finer]), on=on
    )
    from_free = accepted(named("RESERVE", source=[scalar("cpus", 1)], resources=[finer]), on=on)

    assert by_default.failures == by_source.failures == from_free.failures == ()
    assert by_default.unused == by_source.unused == AVAILABLE
    assert from_free.unused == held - Resources.parse("cpus:1")


# Offers that can't be used


@pytest.mark.parametrize(
    ("capabilities", "state"), [([], "TASK_LOST"), (["PARTITION_AWARE"], "TASK_DROPPED")]
)
def test_invalid_offers_drop_every_task(capabilities: list[str], state: str) -> None:
    info = from_json(
        FrameworkInfo,
        {"user": "", "name": "", "capabilities": [{"type": name} for name in capabilities]},
    )

    [status] = dropped(
        [from_json(Operation, launch(task("t1")))],
        info,
        message="Agent disconnected",
        reason="REASON_INVALID_OFFERS",
        wall=1.0,
    )

    assert status.state == state
    assert status.source == "SOURCE_MASTER"
    assert status.uuid is None
    assert status.message == "Agent disconnected"


def test_invalid_offers_fail_operations_that_have_a_name() -> None:
    operations = [
        from_json(Operation, named("RESERVE", resources=[])),
        from_json(Operation, {"type": "RESERVE", "reserve": {}}),
        from_json(Operation, launch(task("t1"))),
    ]

    [status] = failed(operations, message="Agent disconnected")

    assert (status.state, status.message) == ("OPERATION_ERROR", "Agent disconnected")


# Whatever comes


AMOUNTS = st.floats(0.001, 3).map(lambda value: round(value, 3))
ANY = st.one_of(
    st.builds(lambda v: launch(task(f"t{v}", scalar("cpus", v))), AMOUNTS),
    st.builds(lambda v: launch(task(f"r{v}", reserved("cpus", v))), AMOUNTS),
    st.builds(lambda v: group(EXECUTOR, task(f"g{v}", scalar("cpus", v))), AMOUNTS),
    st.builds(lambda v: named("RESERVE", resources=[reserved("cpus", v)]), AMOUNTS),
    st.builds(lambda v: named("RESERVE", resources=[reserved("disk", v)]), AMOUNTS),
    st.builds(lambda v: named("UNRESERVE", resources=[reserved("cpus", v)]), AMOUNTS),
    st.builds(lambda v: named("CREATE", volumes=[volume(v)]), AMOUNTS),
    st.builds(lambda v: named("DESTROY", volumes=[volume(v)]), AMOUNTS),
    st.builds(
        lambda v, more: named("GROW_VOLUME", volume=volume(v), addition=reserved("disk", more)),
        AMOUNTS,
        AMOUNTS,
    ),
    st.builds(
        lambda v, less: named("SHRINK_VOLUME", volume=volume(v), subtract={"value": less}),
        AMOUNTS,
        AMOUNTS,
    ),
)


@given(st.lists(ANY, max_size=8))
def test_nothing_is_gained_or_lost(operations: list[Json]) -> None:
    result = accepted(*operations)

    used = Resources()
    executors = set()
    for step in result.steps:
        if isinstance(step, Convert):
            continue
        for item in (step.task,) if isinstance(step, Run) else step.tasks:
            used += Resources.of(item.resources)
        if isinstance(step, RunGroup) and step.executor not in executors:
            executors.add(step.executor)
            used += Resources.of(step.executor.resources)
    whole = result.unused + result.converted + used
    assert whole.plain == AVAILABLE.plain
    assert result.unused in AVAILABLE


def maybe(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[Json]:
    """Return objects that have some of the fields."""
    return st.fixed_dictionaries({}, optional=dict(fields))


ROLES = st.sampled_from(["*", "web", "web/a", "q", "a//b", ""])
STEPS = maybe(
    type=st.sampled_from(["STATIC", "DYNAMIC", "UNKNOWN"]),
    role=ROLES,
    principal=st.sampled_from(["p", "q"]),
)
VALUES = st.one_of(st.floats(allow_nan=False), st.sampled_from([0, -1, 1, 1e-9, 1e18, 1e308]))
ENDS = st.integers(0, 2**64 - 1)
STRANGE = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["cpus", "mem", "disk", "gpus", "ports", ""]),
        "type": st.sampled_from(["SCALAR", "RANGES", "SET", "TEXT"]),
    },
    optional={
        "scalar": st.builds(lambda value: {"value": value}, VALUES),
        "ranges": st.builds(
            lambda spans: {"range": [{"begin": begin, "end": end} for begin, end in spans]},
            st.lists(st.tuples(ENDS, ENDS), max_size=3),
        ),
        "set": st.builds(lambda items: {"item": items}, st.lists(st.sampled_from("ab"))),
        "role": ROLES,
        "reservation": STEPS,
        "reservations": st.lists(STEPS, max_size=3),
        "allocation_info": maybe(role=ROLES),
        "disk": maybe(
            persistence=st.sampled_from([{"id": "v"}, {"id": ""}]),
            volume=st.sampled_from(
                [
                    {"container_path": "p", "mode": "RW"},
                    {"container_path": "p", "mode": "RO", "host_path": "/"},
                ]
            ),
            source=st.sampled_from([{"type": "MOUNT", "mount": {"root": "/m"}}, {"type": "RAW"}]),
        ),
        "revocable": st.just({}),
        "shared": st.just({}),
    },
)
SOME = st.lists(STRANGE, max_size=3)
STRANGE_TASK = st.builds(
    lambda resources, more: task("t", *resources) | more,
    SOME,
    maybe(
        command=st.sampled_from([None, {}, {"shell": False}]),
        executor=st.builds(lambda own: EXECUTOR | {"resources": own, "type": "CUSTOM"}, SOME),
        limits=st.builds(lambda value: {"cpus": {"value": value}}, VALUES),
    ),
)
WILD = st.one_of(
    st.builds(launch, STRANGE_TASK),
    st.builds(lambda one, own: group(EXECUTOR | {"resources": own}, one), STRANGE_TASK, SOME),
    st.builds(lambda r, s: named("RESERVE", resources=r, source=s), SOME, SOME),
    st.builds(lambda r: named("UNRESERVE", resources=r), SOME),
    st.builds(lambda r: named("CREATE", volumes=r), SOME),
    st.builds(lambda r: named("DESTROY", volumes=r), SOME),
    st.builds(lambda v, a: named("GROW_VOLUME", volume=v, addition=a), STRANGE, STRANGE),
    st.builds(
        lambda v, less: named("SHRINK_VOLUME", volume=v, subtract={"value": less}),
        STRANGE,
        VALUES,
    ),
)


@settings(max_examples=400)
@given(st.lists(WILD, max_size=3))
def test_whatever_is_asked_for_is_carried_out_or_refused_in_words(operations: list[Json]) -> None:
    parsed = []
    for operation in operations:
        try:
            parsed.append(from_json(Operation, operation))
        except InvalidError:
            return  # answered 400 before

    result = outcome(parsed, bench(), wall=1.0)

    assert all(status.message for status in result.refusals)
    assert all(status.message for status in result.failures)
    assert len(result.steps) + len(result.refusals) + len(result.failures) == len(operations)
