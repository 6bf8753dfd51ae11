"""The allocator: fairness, filters, and that nothing is offered twice."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.master.allocator.allocate import Client, Filter, Grant, Spare, allocate
from phalanx.master.allocator.filter import refusal_seconds
from phalanx.master.allocator.sorter import dominant_share
from phalanx.mesos.resources import Resources

MINIMUMS = (Resources.parse("cpus:0.01"), Resources.parse("mem:32"))
TOTAL = {"cpus": 10_000, "mem": 10_000_000}
FREE = Resources.parse("cpus:1;mem:100;ports:[31000-31009]")


def run(
    spares: Sequence[Spare],
    clients: Sequence[Client],
    *,
    now: float = 0.0,
    weights: dict[str, float] | None = None,
) -> tuple[Grant, ...]:
    role_held: dict[str, dict[str, int]] = {}
    for client in clients:
        held = role_held.setdefault(client.role, {})
        for name, amount in client.held.items():
            held[name] = held.get(name, 0) + amount
    return allocate(
        spares,
        clients,
        total=TOTAL,
        role_held=role_held,
        weights=weights or {},
        minimums=MINIMUMS,
        now=now,
    )


def owners(grants: Sequence[Grant]) -> list[tuple[str, str]]:
    return [(grant.agent_id, grant.framework_id) for grant in grants]


def test_one_framework_gets_everything_that_is_left_on_an_agent() -> None:
    grants = run([Spare("a", FREE)], [Client("f", "*")])

    assert grants == (Grant("f", "*", "a", FREE),)


def test_framework_that_holds_less_comes_first() -> None:
    clients = [Client("rich", "*", {"cpus": 5000}), Client("poor", "*", {"cpus": 1000})]

    assert owners(run([Spare("a", FREE)], clients)) == [("a", "poor")]


def test_agents_are_shared_within_one_run() -> None:
    spares = [Spare(name, FREE) for name in "abcd"]

    grants = run(spares, [Client("f", "*"), Client("g", "*")])

    assert sorted(grant.framework_id for grant in grants) == ["f", "f", "g", "g"]


def test_role_counts_before_framework() -> None:
    clients = [
        Client("old", "web", {"cpus": 4000}),
        Client("new", "web"),
        Client("batch", "batch", {"cpus": 1000}),
    ]

    assert owners(run([Spare("a", FREE)], clients)) == [("a", "batch")]


def test_weight_lets_a_role_hold_more() -> None:
    clients = [Client("f", "web", {"cpus": 4000}), Client("g", "batch", {"cpus": 1000})]

    grants = run([Spare("a", FREE)], clients, weights={"web": 8.0})

    assert owners(grants) == [("a", "f")]


@pytest.mark.parametrize("free", ["mem:31", "disk:1000", "ports:[1-9]", "cpus:0.009"])
def test_too_little_is_not_offered(free: str) -> None:
    assert run([Spare("a", Resources.parse(free))], [Client("f", "*")]) == ()


@pytest.mark.parametrize("free", ["mem:32", "cpus:0.01"])
def test_one_minimum_is_enough(free: str) -> None:
    assert len(run([Spare("a", Resources.parse(free))], [Client("f", "*")])) == 1


def test_gpu_agents_are_only_for_frameworks_that_know_gpus() -> None:
    clients = [Client("plain", "*"), Client("z-gpu", "*", takes_gpus=True)]

    assert owners(run([Spare("a", FREE, has_gpus=True)], clients)) == [("a", "z-gpu")]


def filtered(refused: Resources, until: float) -> Client:
    return Client("f", "*", filters={"a": (Filter(refused, until),)})


def test_filter_holds_back_what_was_refused_and_less() -> None:
    client = filtered(FREE, 5.0)

    assert run([Spare("a", FREE)], [client], now=4.9) == ()
    assert run([Spare("a", Resources.parse("cpus:0.5"))], [client], now=4.9) == ()


def test_filter_lets_growth_through_and_ends() -> None:
    client = filtered(FREE, 5.0)
    grown = FREE + Resources.parse("cpus:0.1")

    assert len(run([Spare("a", grown)], [client], now=0.0)) == 1
    assert len(run([Spare("a", FREE)], [client], now=5.0)) == 1


def test_what_one_refuses_goes_to_the_next() -> None:
    clients = [filtered(FREE, 5.0), Client("g", "*", {"cpus": 5000})]

    assert owners(run([Spare("a", FREE)], clients)) == [("a", "g")]


@pytest.mark.parametrize(
    ("seconds", "until"),
    [(None, 5.0), (-1.0, 5.0), (float("nan"), 5.0), (0.5, 1.0), (60.0, 60.0), (1e12, 31536000.0)],
)
def test_refusal_lasts_as_mesos_has_it(seconds: float | None, until: float) -> None:
    assert refusal_seconds(seconds, interval=1.0) == until


def test_refusal_of_zero_seconds_is_none() -> None:
    assert refusal_seconds(0.0, interval=1.0) is None


def test_share_is_that_of_the_dominant_resource() -> None:
    assert dominant_share({"cpus": 1000, "mem": 5_000_000}, TOTAL, weight=1.0) == 0.5
    assert dominant_share({}, TOTAL, weight=1.0) == 0.0
    assert dominant_share({"cpus": 1}, {}, weight=1.0) == 0.0


amounts = st.integers(0, 4000)
frees = st.builds(
    lambda cpus, mem: Resources.parse(f"cpus:{cpus / 1000};mem:{mem}"), amounts, st.integers(0, 64)
)
clients_of = st.lists(
    st.builds(
        Client,
        st.sampled_from("fghi"),
        st.sampled_from(["*", "web"]),
        st.dictionaries(st.just("cpus"), amounts),
        st.dictionaries(
            st.sampled_from("abc"), st.tuples(st.builds(Filter, frees, st.floats(0, 10)))
        ),
    ),
    unique_by=lambda client: (client.framework_id, client.role),
    max_size=6,
)


@given(st.dictionaries(st.sampled_from("abcdef"), frees), clients_of, st.floats(0, 10))
def test_nothing_is_offered_twice_and_nothing_that_is_not_there(
    free: dict[str, Resources], clients: list[Client], now: float
) -> None:
    grants = run([Spare(agent, what) for agent, what in free.items()], clients, now=now)

    assert len({grant.agent_id for grant in grants}) == len(grants)
    known = {(client.framework_id, client.role): client for client in clients}
    for grant in grants:
        assert grant.resources == free[grant.agent_id]
        filters = known[grant.framework_id, grant.role].filters.get(grant.agent_id, ())
        assert not any(item.blocks(grant.resources, now) for item in filters)


@given(st.dictionaries(st.sampled_from("abcdef"), frees), clients_of, st.floats(0, 10))
def test_what_stays_behind_nobody_wanted(
    free: dict[str, Resources], clients: list[Client], now: float
) -> None:
    grants = run([Spare(agent, what) for agent, what in free.items()], clients, now=now)

    for agent in free.keys() - {grant.agent_id for grant in grants}:
        is_little = not any(minimum in free[agent] for minimum in MINIMUMS)
        assert is_little or all(
            any(item.blocks(free[agent], now) for item in client.filters.get(agent, ()))
            for client in clients
        )
