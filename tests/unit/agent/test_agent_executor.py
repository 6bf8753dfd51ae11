"""An executor's side of things is pure: tables and random histories."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.agent.container.containerizer import Exit, Limitation
from phalanx.agent.executor.call import check_call
from phalanx.agent.executor.conversation import (
    Conversation,
    Effect,
    End,
    Parcel,
    Phase,
    Send,
    Shut,
)
from phalanx.agent.executor.ending import terminated
from phalanx.agent.executor.environment import Whereabouts, executor_environment
from phalanx.agent.executor.holding import held_limits, held_resources
from phalanx.agent.executor.hosts import command_name
from phalanx.agent.executor.nested import sandbox_of
from phalanx.agent.executor.timing import Timing
from phalanx.core.error import InvalidError
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.executor import Call, Event
from phalanx.mesos.v1.mesos import (
    DurationInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    KillPolicy,
    TaskInfo,
    TaskState,
)

SUBSCRIBED = Event(type="SUBSCRIBED")


def task(name: str, **rest: Any) -> TaskInfo:
    base = {"name": name, "task_id": {"value": name}, "agent_id": {"value": "a"}}
    return from_json(TaskInfo, base | rest)


def parcel(*names: str) -> Parcel:
    return Parcel(tuple(map(task, names)), is_group=len(names) > 1)


def kinds(effects: tuple[Effect, ...]) -> list[str]:
    """Say what effects are in a word each."""
    return [
        str(effect.event.type) if isinstance(effect, Send) else type(effect).__name__.upper()
        for effect in effects
    ]


def subscribed(*names: str) -> Conversation:
    """An executor that is there and has been given tasks."""
    talk, _ = Conversation().launch(parcel("first"))
    talk, _ = talk.subscribe(SUBSCRIBED, ())
    for name in names:
        talk, _ = talk.launch(parcel(name))
    return talk


def test_tasks_wait_for_the_executor_in_their_order() -> None:
    talk, first = Conversation().launch(parcel("a"))
    talk, second = talk.launch(parcel("b", "c"))

    talk, effects = talk.subscribe(SUBSCRIBED, ())

    assert (first, second) == ((), ())
    assert kinds(effects) == ["SUBSCRIBED", "LAUNCH", "LAUNCH_GROUP"]
    assert talk.phase == Phase.RUNNING
    assert talk.silent == {"a", "b", "c"}


def test_a_task_for_an_executor_that_is_there_goes_at_once() -> None:
    _, effects = subscribed().launch(parcel("a"))

    assert kinds(effects) == ["LAUNCH"]


def test_an_executor_without_anything_is_shut_down() -> None:
    talk, effects = Conversation().subscribe(SUBSCRIBED, ())

    assert kinds(effects) == ["SUBSCRIBED", "SHUTDOWN", "SHUT"]
    assert talk.phase == Phase.TERMINATING


def test_killing_the_only_queued_task_shuts_the_executor_down() -> None:
    talk, _ = Conversation().launch(parcel("a", "b"))

    talk, effects = talk.kill("b", None)

    assert effects[0] == End(frozenset({"a", "b"}), is_kill=True)
    assert kinds(effects[1:]) == ["SHUT"]


def test_a_queued_task_is_killed_without_the_executor() -> None:
    talk, _ = Conversation().launch(parcel("a"))
    talk, _ = talk.launch(parcel("b"))

    talk, effects = talk.kill("a", None)

    assert effects == (End(frozenset({"a"}), is_kill=True),)
    assert talk.names == {"b"}


def test_a_kill_waits_for_an_executor_that_is_away() -> None:
    policy = KillPolicy(grace_period=DurationInfo(nanoseconds=1))
    talk = subscribed().update("first", is_terminal=False).lose()
    talk, before = talk.kill("first", policy)

    talk, effects = talk.subscribe(SUBSCRIBED, ())

    assert before == ()
    assert kinds(effects) == ["SUBSCRIBED", "KILL"]
    sent = effects[1]
    assert isinstance(sent, Send)
    assert sent.event.kill is not None
    assert sent.event.kill.kill_policy == policy


@pytest.mark.parametrize(
    ("unacknowledged", "lost"),
    [
        pytest.param((), {"a"}, id="never-reached-it"),
        pytest.param(("a",), set[str](), id="it-has-it"),
        pytest.param(("other",), {"a"}, id="it-has-another"),
    ],
)
def test_a_silent_task_that_the_executor_does_not_know_is_lost(
    unacknowledged: tuple[str, ...], lost: set[str]
) -> None:
    talk = Conversation(silent=frozenset({"a"}), held=frozenset({"b"}), has_had_tasks=True)

    after, effects = talk.subscribe(SUBSCRIBED, unacknowledged)

    ends = [effect for effect in effects if isinstance(effect, End)]
    assert ends == ([End(frozenset(lost), is_kill=False)] if lost else [])
    assert after.names == {"a", "b"} - lost


def test_an_executor_that_is_told_to_end_is_told_again_when_it_comes_back() -> None:
    talk, _ = subscribed().lose().shut()

    _, effects = talk.subscribe(SUBSCRIBED, ())

    assert kinds(effects) == ["SUBSCRIBED", "SHUTDOWN"]


def test_nothing_is_launched_any_more_at_the_end() -> None:
    talk, _ = subscribed().shut()

    _, effects = talk.launch(parcel("a"))

    assert effects == (End(frozenset({"a"}), is_kill=False),)


def test_a_second_shutdown_says_nothing() -> None:
    talk, first = subscribed().shut()
    _, second = talk.shut()

    assert kinds(first) == ["SHUTDOWN", "SHUT"]
    assert second == ()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("launch"), st.integers(0, 5)),
        st.tuples(st.just("kill"), st.integers(0, 5)),
        st.tuples(st.just("subscribe"), st.just(0)),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("run"), st.integers(0, 5)),
        st.tuples(st.just("finish"), st.integers(0, 5)),
        st.tuples(st.just("shut"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_every_task_is_launched_once_or_ended_and_none_is_forgotten(
    steps: list[tuple[str, int]],
) -> None:
    talk = Conversation()
    given_names: set[str] = set()
    launched: list[str] = []
    ended: set[str] = set()
    shuts = 0
    for number, (what, which) in enumerate(steps):
        name = str(which)
        effects: tuple[Effect, ...] = ()
        if what == "launch":
            name = f"{which}-{number}"  # no id comes twice
            given_names.add(name)
            talk, effects = talk.launch(parcel(name))
        elif what == "kill" and given_names:
            talk, effects = talk.kill(sorted(given_names)[which % len(given_names)], None)
        elif what == "subscribe":
            known = [name for name in launched if name not in ended]
            talk, effects = talk.subscribe(SUBSCRIBED, known)
        elif what == "lose":
            talk = talk.lose()
        elif what in ("run", "finish") and launched:
            name = launched[which % len(launched)]
            if name not in ended:
                talk = talk.update(name, is_terminal=what == "finish")
                if what == "finish":
                    ended.add(name)
        elif what == "shut":
            talk, effects = talk.shut()
        for effect in effects:
            if isinstance(effect, Send) and effect.event.launch is not None:
                assert talk.is_connected
                launched.append(effect.event.launch.task.task_id.value)
            elif isinstance(effect, End):
                assert not effect.names & ended
                ended |= effect.names
            elif isinstance(effect, Shut):
                shuts += 1
        assert talk.names == given_names - ended
    assert len(launched) == len(set(launched))
    assert shuts <= 1
    assert not {name for name in launched if name not in given_names}


def call(**rest: Any) -> Call:
    base = {"framework_id": {"value": "f"}, "executor_id": {"value": "e"}}
    return from_json(Call, base | rest)


def status(**rest: Any) -> Mapping[str, Any]:
    base = {
        "task_id": {"value": "t"},
        "state": "TASK_RUNNING",
        "uuid": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    return {"status": base | rest}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param(call(), "'type'", id="type"),
        pytest.param(call(type="SUBSCRIBE"), "'subscribe'", id="subscribe"),
        pytest.param(call(type="UPDATE"), "'update'", id="update"),
        pytest.param(call(type="MESSAGE"), "'message'", id="message"),
        pytest.param(call(type="UPDATE", update=status(uuid=None)), "'uuid'", id="uuid"),
        pytest.param(call(type="UPDATE", update=status(uuid="AAAA")), "3 bytes", id="short-uuid"),
        pytest.param(
            call(type="UPDATE", update=status(source="SOURCE_MASTER")),
            "expecting 'SOURCE_EXECUTOR'",
            id="source",
        ),
        pytest.param(
            call(type="UPDATE", update=status(executor_id={"value": "other"})),
            "does not match",
            id="executor",
        ),
        pytest.param(
            call(type="SUBSCRIBE", subscribe={"unacknowledged_updates": [status(uuid=None)]}),
            "'uuid'",
            id="unacknowledged",
        ),
    ],
)
def test_a_call_that_lacks_something_is_refused(wrong: Call, words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_call(wrong)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(call(type="HEARTBEAT"), id="heartbeat"),
        pytest.param(call(type="SUBSCRIBE", subscribe={}), id="subscribe"),
        pytest.param(call(type="UPDATE", update=status()), id="update"),
        pytest.param(call(type="UPDATE", update=status(source="SOURCE_EXECUTOR")), id="source"),
    ],
)
def test_a_whole_call_is_taken(right: Call) -> None:
    check_call(right)


def executor(**rest: Any) -> ExecutorInfo:
    return from_json(ExecutorInfo, {"executor_id": {"value": "e"}} | rest)


def scalar(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


def test_a_container_is_held_to_the_sum() -> None:
    info = executor(resources=[scalar("cpus", 0.1), scalar("mem", 32)])
    tasks = [
        task("a", resources=[scalar("cpus", 1), scalar("mem", 64)], limits={"mem": {"value": 128}}),
        task("b", resources=[scalar("cpus", 0.5), scalar("mem", 16)]),
    ]

    resources = held_resources(info, tasks)
    limits = held_limits(info, tasks)

    assert (resources.scalar("cpus"), resources.scalar("mem")) == (1.6, 112)
    assert {name: limit.value for name, limit in limits.items()} == {"mem": 176}


def test_no_limit_at_all_is_the_sum_of_nothing() -> None:
    endless = task("a", limits={"cpus": {"value": float("inf")}})

    assert held_limits(executor(), [task("a")]) == {}
    assert held_limits(executor(), [endless])["cpus"].value == float("inf")


@pytest.mark.parametrize(
    ("exit", "reason", "message"),
    [
        pytest.param(
            Exit(status=256), "REASON_EXECUTOR_TERMINATED", "Executor terminated", id="ended"
        ),
        pytest.param(
            Exit(status=9, limitation=Limitation("REASON_CONTAINER_LIMITATION_MEMORY", "too big")),
            "REASON_CONTAINER_LIMITATION_MEMORY",
            "too big",
            id="limit",
        ),
        pytest.param(
            Exit(error="no such file"),
            "REASON_CONTAINER_LAUNCH_FAILED",
            "Failed to launch container: no such file",
            id="launch",
        ),
    ],
)
def test_an_executor_that_ended_fails_its_tasks(exit: Exit, reason: str, message: str) -> None:
    end = terminated(exit)

    assert (end.state, end.reason, end.message) == (TaskState.TASK_FAILED, reason, message)


@pytest.mark.parametrize(
    ("checkpoint", "more"),
    [
        pytest.param(False, set[str](), id="without"),
        pytest.param(True, {"MESOS_RECOVERY_TIMEOUT", "MESOS_SUBSCRIPTION_BACKOFF_MAX"}, id="with"),
    ],
)
def test_an_executor_is_told_where_it_is(checkpoint: bool, more: set[str]) -> None:
    framework = FrameworkInfo(
        user="root", name="f", id=FrameworkID(value="fw"), checkpoint=checkpoint
    )
    info = ExecutorInfo(executor_id=ExecutorID(value="e"))

    found = executor_environment(info, framework, Whereabouts("S0", "10.0.0.1", 5051, 5.0, 900.0))

    assert found["MESOS_SLAVE_PID"] == "slave(1)@10.0.0.1:5051"
    assert found["MESOS_CHECKPOINT"] == ("1" if checkpoint else "0")
    assert more == {name for name in found if "RECOVERY" in name or "BACKOFF" in name}


def test_an_executor_has_its_own_grace() -> None:
    own = executor(shutdown_grace_period={"nanoseconds": 1_500_000_000})

    assert Timing().grace(executor()) == 5.0
    assert Timing().grace(own) == 1.5


def test_sandboxes_are_nested_like_their_containers(tmp_path: Any) -> None:
    assert sandbox_of(tmp_path, "a.b.c") == tmp_path / "containers" / "b" / "containers" / "c"


def test_the_executor_of_a_command_task_has_its_mesos_name() -> None:
    long = command_name("pt1", "echo hi; sleep 38")

    assert long == "Command Executor (Task: pt1) (Command: sh -c 'echo hi; sle...')"
