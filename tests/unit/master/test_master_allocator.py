"""The allocation: order, stages, quota, reservations, capabilities, and what always holds."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.master.allocator.allocate import Client, Grant, Market, Spare, allocate
from phalanx.master.allocator.quota import Quota
from phalanx.master.allocator.rule import quantities
from phalanx.master.allocator.sorter import Standing
from phalanx.mesos.resources import Resources
from phalanx.mesos.role import ancestors, top_of
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import Resource

FREE = Resources.parse("cpus:1;mem:64")
TOTAL = {"cpus": 10_000, "mem": 10_000_000}
MINIMUMS = quantities("cpus:0.01|mem:32")


def client(name: str, role: str = "*", bit: int = 0, **more: Any) -> Client:
    return Client(name, role, 1 << bit, **more)


def market(spares: Sequence[Spare], clients: Sequence[Client], **more: object) -> Market:
    """Return a market in which all that is held is held by *clients*."""
    held: dict[str, Counter[str]] = defaultdict(Counter)
    consumed: dict[str, Counter[str]] = defaultdict(Counter)
    counts: Counter[str] = Counter()
    for one in clients:
        held[one.role].update(one.held)
        consumed[top_of(one.role)].update(one.held)
        counts[one.role] += one.count
    available: Counter[str] = Counter()
    for spare in spares:
        available.update(spare.free.loose_scalars)
        for role, resources in spare.free.by_role().items():
            consumed[top_of(role)].update(resources.scalars)
    weights = more.pop("weights", {})
    total = more.pop("total", TOTAL)
    standing = Standing(total, held, counts, weights)  # type: ignore[arg-type]  # a plain dict will do
    found = Market(spares, clients, standing, {}, consumed, available, MINIMUMS)
    return replace(found, **more)  # type: ignore[arg-type]  # fields by name


def run(spares: Sequence[Spare], clients: Sequence[Client], **more: object) -> tuple[Grant, ...]:
    return allocate(market(spares, clients, **more), Random(7))


def owners(grants: Sequence[Grant]) -> list[tuple[str, str]]:
    return [(grant.agent_id, grant.framework_id) for grant in grants]


def reserved(text: str, *roles: str) -> Resources:
    """Return resources that are reserved, dynamically, to each role in turn."""
    found = Resources.parse(text)
    for role in roles:
        [step] = from_json(
            Resource,
            {
                "name": "x",
                "type": "SCALAR",
                "scalar": {"value": 1},
                "reservations": [{"type": "DYNAMIC", "role": role}],
            },
        ).reservations
        found = found.pushed(step)
    return found


def agent(name: str, free: Resources, **more: object) -> Spare:
    is_loose = all(kind.is_loose for kind in free)
    return Spare(name, free, is_loose=is_loose, **more)  # type: ignore[arg-type]  # fields by name


# Order


def test_one_framework_gets_everything_that_is_left_on_an_agent() -> None:
    assert run([agent("a", FREE)], [client("f")]) == (Grant("f", "*", "a", FREE),)


def test_framework_that_holds_less_comes_first() -> None:
    clients = [client("rich", held={"cpus": 5000}), client("poor", bit=1, held={"cpus": 1000})]

    assert owners(run([agent("a", FREE)], clients)) == [("a", "poor")]


def test_agents_are_shared_within_one_run() -> None:
    grants = run([agent(name, FREE) for name in "abcd"], [client("f"), client("g", bit=1)])

    assert sorted(grant.framework_id for grant in grants) == ["f", "f", "g", "g"]


def test_role_counts_before_framework() -> None:
    clients = [
        client("old", "web", 0, held={"cpus": 4000}),
        client("new", "web", 1),
        client("batch", "batch", 2, held={"cpus": 1000}),
    ]

    assert owners(run([agent("a", FREE)], clients)) == [("a", "batch")]


def test_weight_lets_a_role_hold_more() -> None:
    clients = [
        client("f", "web", 0, held={"cpus": 4000}),
        client("g", "batch", 1, held={"cpus": 1000}),
    ]

    assert owners(run([agent("a", FREE)], clients, weights={"web": 8.0})) == [("a", "f")]


def test_fewer_grants_break_a_tie_then_the_name() -> None:
    clients = [client("f", count=3), client("h", bit=1), client("g", bit=2)]

    assert owners(run([agent("a", FREE)], clients)) == [("a", "g")]


def test_a_subtree_competes_as_a_whole() -> None:
    clients = [
        client("f", "eng/dev", 0, held={"cpus": 1000}),
        client("g", "eng/test", 1),
        client("h", "ops", 2, held={"cpus": 500}),
    ]

    assert owners(run([agent("a", FREE)], clients)) == [("a", "h")]


def test_frameworks_of_an_inner_role_compete_with_its_children() -> None:
    clients = [
        client("boss", "eng", 0, held={"cpus": 500}),
        client("dev", "eng/dev", 1, held={"cpus": 1000}),
    ]

    assert owners(run([agent("a", FREE)], clients)) == [("a", "boss")]
    richer = [replace(clients[0], held={"cpus": 2000}), clients[1]]
    assert owners(run([agent("a", FREE)], richer)) == [("a", "dev")]


def test_weights_act_among_siblings() -> None:
    clients = [
        client("f", "eng/a", 0, held={"cpus": 3000}),
        client("g", "eng/b", 1, held={"cpus": 1000}),
    ]

    assert owners(run([agent("x", FREE)], clients, weights={"eng/a": 4.0})) == [("x", "f")]
    assert owners(run([agent("x", FREE)], clients, weights={"eng": 4.0})) == [("x", "g")]


def test_what_a_suppressed_framework_holds_counts_for_its_role() -> None:
    clients = [client("f", "web", 0), client("g", "batch", 1, held={"cpus": 100})]
    found = market([agent("a", FREE)], clients)
    held = {**found.standing.held, "web": {"cpus": 5000}}

    grants = allocate(replace(found, standing=replace(found.standing, held=held)), Random(1))

    assert owners(grants) == [("a", "g")]


# What is worth an offer, and to whom


@pytest.mark.parametrize("free", ["mem:31", "disk:1000", "ports:[1-9]", "cpus:0.009"])
def test_too_little_is_not_offered(free: str) -> None:
    assert run([agent("a", Resources.parse(free))], [client("f")]) == ()


@pytest.mark.parametrize("free", ["mem:32", "cpus:0.01", "mem(web):32"])
def test_one_minimum_is_enough(free: str) -> None:
    assert len(run([agent("a", Resources.parse(free))], [client("f", "web")])) == 1


def test_framework_may_have_minimums_of_its_own() -> None:
    small = [agent("a", Resources.parse("disk:1"))]

    assert len(run(small, [client("f", minimums=())])) == 1
    assert run(small, [client("f", minimums=quantities("disk:2"))]) == ()
    assert run([agent("a", FREE)], [client("f", minimums=quantities("cpus:2"))]) == ()


def test_volumes_count_for_the_minimum() -> None:
    [volume] = [
        {
            "name": "disk",
            "type": "SCALAR",
            "scalar": {"value": 64},
            "role": "web",
            "disk": {"persistence": {"id": "v"}, "volume": {"container_path": "v", "mode": "RW"}},
        }
    ]
    free = Resources.of([from_json(Resource, volume)])

    asks = client("f", "web", minimums=quantities("disk:64"))
    assert len(run([agent("a", free)], [asks])) == 1


def test_gpu_agents_are_only_for_frameworks_that_know_gpus() -> None:
    clients = [client("plain"), client("z-gpu", bit=1, takes_gpus=True)]
    spares = [agent("a", FREE, has_gpus=True)]

    assert owners(run(spares, clients)) == [("a", "z-gpu")]
    assert owners(run(spares, clients, filters_gpus=False)) == [("a", "plain")]


def test_agents_of_another_region_are_only_for_frameworks_that_know_regions() -> None:
    clients = [client("plain"), client("z-far", bit=1, takes_remote=True)]

    assert owners(run([agent("a", FREE, is_remote=True)], clients)) == [("a", "z-far")]


def test_revocable_and_shared_resources_need_a_capability() -> None:
    text = (
        '[{"name":"cpus","type":"SCALAR","scalar":{"value":2},"revocable":{}},'
        '{"name":"cpus","type":"SCALAR","scalar":{"value":1}},'
        '{"name":"disk","type":"SCALAR","scalar":{"value":9},"role":"web","shared":{},'
        '"disk":{"persistence":{"id":"v"},"volume":{"container_path":"v","mode":"RW"}}}]'
    )
    free = Resources.parse(text)

    def parts(**more: Any) -> Resources:
        [grant] = run([agent("a", free)], [client("f", "web", **more)])
        return grant.resources

    assert parts() == Resources.parse("cpus:1")
    assert parts(takes_revocable=True).scalars == {"cpus": 3000}
    assert parts(takes_shared=True).scalars == {"cpus": 1000, "disk": 9000}


# Reservations


def test_reserved_resources_go_to_their_role_and_below() -> None:
    free = Resources.parse("cpus:1;mem:64") + reserved("cpus:2", "eng") + reserved("cpus:4", "ops")
    clients = [client("dev", "eng/dev", 0), client("ops", "ops", 1), client("z", "other", 2)]

    grants = run([agent("a", free)], clients)

    assert {grant.framework_id: grant.resources.scalar("cpus") for grant in grants} == {
        "dev": 3.0,
        "ops": 4.0,
    }


def test_a_child_keeps_its_reservation_to_itself() -> None:
    free = reserved("cpus:2", "eng", "eng/dev")

    assert run([agent("a", free)], [client("boss", "eng", takes_refined=True)]) == ()
    assert run([agent("a", free)], [client("dev", "eng/dev")]) == ()
    assert len(run([agent("a", free)], [client("dev", "eng/dev", takes_refined=True)])) == 1


# Quota


def test_limit_bounds_what_a_tree_gets() -> None:
    quotas = {"eng": Quota(limits={"cpus": 2500})}
    spares = [agent(name, FREE) for name in "abcd"]
    clients = [client("f", "eng/dev", 0), client("g", "eng/test", 1)]

    grants = run(spares, clients, quotas=quotas)

    assert sum(grant.resources.scalar("cpus") for grant in grants) == 2.5


def test_reservations_count_against_a_limit_but_are_offered() -> None:
    quotas = {"eng": Quota(limits={"cpus": 2000})}
    free = Resources.parse("cpus:4") + reserved("cpus:3", "eng")

    [grant] = run([agent("a", free)], [client("f", "eng")], quotas=quotas)

    assert grant.resources == reserved("cpus:3", "eng")


def test_limit_leaves_ranges_whole() -> None:
    quotas = {"eng": Quota(limits={"cpus": 500})}
    free = Resources.parse("cpus:4;mem:64;ports:[1-9]")

    [grant] = run([agent("a", free)], [client("f", "eng")], quotas=quotas)

    assert grant.resources == Resources.parse("cpus:0.5;mem:64;ports:[1-9]")


def test_guarantee_comes_before_fair_share() -> None:
    quotas = {"eng": Quota(guarantees={"cpus": 4000})}
    clients = [client("f", "eng", 0, held={"cpus": 3000}), client("poor", "web", 1)]

    assert owners(run([agent("a", FREE)], clients, quotas=quotas)) == [("a", "f")]


def test_guarantee_is_for_the_tree() -> None:
    quotas = {"eng": Quota(guarantees={"cpus": 4000})}
    clients = [client("f", "eng/dev", 0, held={"cpus": 3000}), client("poor", "web", 1)]

    assert owners(run([agent("a", FREE)], clients, quotas=quotas)) == [("a", "f")]


def test_headroom_is_held_for_a_guarantee_that_nobody_takes_yet() -> None:
    quotas = {"eng": Quota(guarantees={"cpus": 3000})}
    spares = [agent(name, FREE) for name in "abcd"]

    grants = run(spares, [client("f", "web")], quotas=quotas)

    assert sum(grant.resources.scalar("cpus") for grant in grants) == 1.0


def test_a_met_guarantee_competes_by_fair_share() -> None:
    quotas = {"eng": Quota(guarantees={"cpus": 1000})}
    clients = [client("f", "eng", 0, held={"cpus": 1000}), client("poor", "web", 1)]

    assert owners(run([agent("a", FREE)], clients, quotas=quotas)) == [("a", "poor")]


# Filters and turns


def test_filter_on_all_that_is_free_blocks() -> None:
    clients = [client("f"), client("g", bit=1, held={"cpus": 5000})]

    assert owners(run([agent("a", FREE, blocked=1)], clients)) == [("a", "g")]


def test_filter_on_a_part_blocks_only_that_part() -> None:
    free = Resources.parse("cpus:1;mem:64") + reserved("cpus:2", "ops")
    partial = ((Resources.parse("cpus:1;mem:64"), 0b11),)
    clients = [client("f", "web", 0), client("g", "ops", 1)]

    grants = run([agent("a", free, partial=partial)], clients)

    assert owners(grants) == [("a", "g")]


def test_who_passed_comes_after_all_others_and_only_on_the_timer() -> None:
    clients = [client("greedy"), client("modest", bit=1, held={"cpus": 9000})]

    assert owners(run([agent("a", FREE, passed=1)], clients)) == [("a", "modest")]
    [again] = run([agent("a", FREE, passed=3)], clients)
    assert (again.framework_id, again.is_second) == ("greedy", True)
    assert run([agent("a", FREE, passed=3)], clients, is_batch=False) == ()


def test_who_passed_on_its_part_stands_behind_for_that_part() -> None:
    free = Resources.parse("cpus:1;mem:64") + reserved("cpus:2", "ops")
    clients = [client("greedy", "web", 0), client("modest", "x", 1, held={"cpus": 9000})]

    def grants(passed: Resources, *, is_batch: bool = True) -> list[tuple[str, bool]]:
        spare = agent("a", free, partly_passed=((passed, 1),))
        found = run([spare], clients if is_batch else clients[:1], is_batch=is_batch)
        return [(grant.framework_id, grant.is_second) for grant in found]

    assert grants(FREE) == [("modest", False)]
    assert grants(Resources.parse("cpus:0.5;mem:64")) == [("greedy", False)]  # there is more now
    assert grants(FREE, is_batch=False) == []
    alone = run([agent("a", free, partly_passed=((FREE, 1),))], clients[:1])
    assert [(grant.framework_id, grant.is_second) for grant in alone] == [("greedy", True)]


# What always holds

amounts = st.integers(0, 4000)
role_names = st.sampled_from(["*", "web", "eng", "eng/dev", "eng/dev/x", "eng/test", "ops"])
loose = st.builds(
    lambda cpus, mem: Resources.parse(f"cpus:{cpus / 1000};mem:{mem}"), amounts, st.integers(0, 64)
)
owned = st.builds(
    lambda cpus, role: reserved(f"cpus:{cpus / 1000}", role),
    st.integers(1, 4000),
    st.sampled_from(["web", "eng", "eng/dev"]),
)
frees = st.builds(lambda part, others: sum(others, part), loose, st.lists(owned, max_size=2))
masks = st.integers(0, 63)
spares_of = st.lists(
    st.builds(
        lambda name, free, blocked, passed, has_gpus: agent(
            name, free, blocked=blocked, passed=passed, has_gpus=has_gpus
        ),
        st.sampled_from("abcdef"),
        frees,
        masks,
        masks,
        st.booleans(),
    ),
    unique_by=lambda spare: spare.agent_id,
    max_size=6,
)
clients_of = st.lists(
    st.tuples(
        st.sampled_from("fghi"),
        role_names,
        st.dictionaries(st.just("cpus"), amounts),
        st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda found: found[:2],
    max_size=6,
).map(
    lambda found: [
        client(name, role, bit, held=held, takes_gpus=gpus, takes_refined=refined)
        for bit, (name, role, held, gpus, refined) in enumerate(found)
    ]
)
quotas_of = st.dictionaries(
    st.sampled_from(["web", "eng", "ops"]),
    st.tuples(amounts, amounts).map(lambda pair: Quota({"cpus": min(pair)}, {"cpus": max(pair)})),
)


@given(spares_of, clients_of, quotas_of, st.booleans(), st.randoms(use_true_random=False))
def test_no_run_breaks_a_rule(
    spares: list[Spare],
    clients: list[Client],
    quotas: dict[str, Quota],
    is_batch: bool,
    rng: Random,
) -> None:
    found = market(spares, clients, quotas=quotas, is_batch=is_batch)

    grants = allocate(found, rng)

    known = {(one.framework_id, one.role): one for one in clients}
    given_out: dict[str, Resources] = defaultdict(Resources)
    for grant in grants:
        one = known[grant.framework_id, grant.role]
        [spare] = [item for item in spares if item.agent_id == grant.agent_id]
        assert not spare.blocked & one.bit
        assert one.takes_gpus or not spare.has_gpus
        assert grant.is_second == bool(spare.passed & one.bit)
        assert is_batch or not grant.is_second
        roles = {"*", grant.role, *ancestors(grant.role)}
        assert all(kind.role in roles for kind in grant.resources)
        given_out[grant.agent_id] += grant.resources
    for spare in spares:  # nothing twice, nothing that is not there, and the sum is conserved
        assert given_out[spare.agent_id] in spare.free
        left = spare.free - given_out[spare.agent_id]
        assert left + given_out[spare.agent_id] == spare.free
    keys = [(grant.framework_id, grant.role, grant.agent_id) for grant in grants]
    assert len(set(keys)) == len(keys)
    for top, quota in quotas.items():  # a limit is never exceeded by what was given out
        more = sum(
            grant.resources.loose_scalars.get("cpus", 0)
            for grant in grants
            if top_of(grant.role) == top
        )
        consumed = found.consumed.get(top, {}).get("cpus", 0)
        assert more == 0 or consumed + more <= quota.limits["cpus"]


@given(spares_of, clients_of, quotas_of, st.randoms(use_true_random=False))
def test_a_guarantee_is_kept_free_or_met(
    spares: list[Spare], clients: list[Client], quotas: dict[str, Quota], rng: Random
) -> None:
    """Nobody gets what another tree's guarantee needs."""
    found = market(spares, clients, quotas=quotas)
    grants = allocate(found, rng)
    taken: Counter[str] = Counter()
    for grant in grants:
        taken[top_of(grant.role)] += grant.resources.loose_scalars.get("cpus", 0)
    available = found.available.get("cpus", 0)

    def lacking(top: str, more: int) -> int:
        consumed = found.consumed.get(top, {}).get("cpus", 0) + more
        return max(0, quotas[top].guarantees["cpus"] - consumed)

    before = sum(lacking(top, 0) for top in quotas)
    after = sum(lacking(top, taken[top]) for top in quotas)
    if before <= available:
        assert after <= available - sum(taken.values())


@given(spares_of, clients_of, st.randoms(use_true_random=False))
def test_what_stays_behind_nobody_could_have(
    spares: list[Spare], clients: list[Client], rng: Random
) -> None:
    grants = allocate(market(spares, clients), rng)

    for spare in spares:
        mine = [grant for grant in grants if grant.agent_id == spare.agent_id]
        left = spare.free - sum((grant.resources for grant in mine), Resources())
        for one in clients:
            if any((g.framework_id, g.role) == (one.framework_id, one.role) for g in mine):
                continue
            part = left.for_role(one.role)
            if not one.takes_refined:
                part = part.where(lambda kind: len(kind.reservations) <= 1)
            is_little = not part or (
                part.scalars.get("cpus", 0) < 10 and part.scalars.get("mem", 0) < 32_000
            )
            is_kept_away = spare.blocked & one.bit or (spare.has_gpus and not one.takes_gpus)
            assert is_little or is_kept_away


@given(
    st.lists(st.tuples(role_names, amounts), min_size=2, max_size=6),
    st.dictionaries(role_names, st.floats(0.5, 4)),
    st.randoms(use_true_random=False),
)
def test_one_agent_goes_to_who_is_furthest_behind(
    wants: list[tuple[str, int]], weights: dict[str, float], rng: Random
) -> None:
    """Walk the tree of roles with plain sums and compare."""
    clients = [
        client(f"f{bit}", role, bit, held={"cpus": cpus}) for bit, (role, cpus) in enumerate(wants)
    ]
    found = market([agent("a", FREE)], clients, weights=weights, total={"cpus": 10_000})
    [grant] = allocate(found, rng)

    def share(path: str, *, is_own: bool) -> float:
        held = sum(
            one.held["cpus"]
            for one in clients
            if one.role == path or (not is_own and one.role.startswith(f"{path}/"))
        )
        return held * (1 / 10_000) / (1.0 if is_own else weights.get(path, 1.0))

    path = ""
    chosen = {one.framework_id for one in clients if one.role == grant.role}
    while path != grant.role:
        depth = 0 if not path else path.count("/") + 1
        children = {
            "/".join(one.role.split("/")[: depth + 1])
            for one in clients
            if not path or one.role.startswith(f"{path}/")
        }
        rivals = [share(child, is_own=False) for child in children]
        if path and any(one.role == path for one in clients):
            rivals.append(share(path, is_own=True))
        path = "/".join(grant.role.split("/")[: depth + 1])
        assert share(path, is_own=False) == min(rivals)
    below = {one.role for one in clients if one.role.startswith(f"{path}/")}
    if below:
        nearest = {"/".join(role.split("/")[: path.count("/") + 2]) for role in below}
        assert all(share(path, is_own=True) <= share(child, is_own=False) for child in nearest)
    least = min(one.held["cpus"] for one in clients if one.framework_id in chosen)
    [winner] = [one for one in clients if one.framework_id == grant.framework_id]
    assert winner.held["cpus"] == least
    assert path == grant.role


@given(st.integers(2, 8), st.integers(1, 5), st.randoms(use_true_random=False))
def test_nobody_who_declines_keeps_another_from_being_asked(
    frameworks: int, agents: int, rng: Random
) -> None:
    """All decline at once and without a filter; each is asked within as many runs as there are."""
    passed: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    clients = [
        client(f"f{bit}", f"r{bit}", bit, held={"cpus": 500 * bit}) for bit in range(frameworks)
    ]
    for _ in range(frameworks):
        spares = [agent(f"a{n}", FREE, passed=passed[f"a{n}"]) for n in range(agents)]
        for grant in allocate(market(spares, clients), rng):
            asked[grant.framework_id] += 1
            if grant.is_second:
                passed[grant.agent_id] = 0
            passed[grant.agent_id] |= 1 << int(grant.framework_id[1:])

    assert set(asked) == {one.framework_id for one in clients}


def test_random_sorters_prefer_weight() -> None:
    clients = [client("f", "heavy", 0), client("g", "light", 1)]
    found = market([agent("a", FREE)], clients, weights={"heavy": 9.0})
    standing = replace(found.standing, role_sorter="random", framework_sorter="random")
    rng = Random(5)

    first = Counter(
        grant.framework_id
        for _ in range(500)
        for grant in allocate(replace(found, standing=standing), rng)
    )

    assert 400 < first["f"] < 490
