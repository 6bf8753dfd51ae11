"""The allocator at work on a cluster, on a clock that the test moves."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from tests.unit.master.world import SOON, Json, World, agents_of, cpus, of

from phalanx.core.store.memory import MemoryStore
from phalanx.master.allocator.rule import Rules, Timing
from phalanx.master.clock import SystemClock
from phalanx.master.maintenance.maintenance import Maintenance
from phalanx.mesos.operation import Conversion
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.maintenance import Schedule
from phalanx.mesos.v1.mesos import Resource
from phalanx.mesos.v1.quota import QuotaConfig
from phalanx.mesos.v1.scheduler import OfferConstraints
from phalanx.net.model.objects import Liveness

# Offers


def test_an_offer_says_all_that_a_framework_may_know() -> None:
    world = World()
    domain = {"fault_domain": {"region": {"name": "eu"}, "zone": {"name": "eu-1"}}}
    attributes = [{"name": "rack", "type": "TEXT", "text": {"value": "r1"}}]
    agent = world.agent("a1", "cpus:2;cpus(web):1", attributes=attributes, domain=domain)
    world.plan(agent)
    agent.executors["f", "e"] = None  # type: ignore[assignment]  # only its key is looked at
    agent.executors["g", "x"] = None  # type: ignore[assignment]  # only the key counts
    world.framework("f", "web", takes="RESERVATION_REFINEMENT")

    [offer] = world.run()["f"]

    assert offer["hostname"] == "a1"
    assert offer["url"]["path"] == "/slave(1)"
    assert offer["domain"] == domain
    assert offer["attributes"] == attributes
    assert offer["executor_ids"] == [{"value": "e"}]
    assert offer["unavailability"] == SOON
    assert offer["allocation_info"] == {"role": "web"}
    stacks = [item.get("reservations") for item in offer["resources"]]
    assert stacks == [None, [{"type": "STATIC", "role": "web"}]]


def test_a_nested_role_gets_what_is_reserved_above_it() -> None:
    world = World()
    world.agent("a1", "cpus:2;mem:64;cpus(eng):1;cpus(eng/dev):1;cpus(ops):4")
    world.framework("f", "eng/dev", takes="RESERVATION_REFINEMENT")

    [offer] = world.run()["f"]

    assert cpus(offer) == 4.0


def test_whatever_is_not_offered_to_one_role_is_offered_to_another() -> None:
    world = World()
    world.agent("a1", "cpus:2;mem:64;cpus(eng):1;cpus(ops):4")
    world.framework("f", "eng", "ops")

    found = world.run()["f"]

    assert sorted(offer["allocation_info"]["role"] for offer in found) == ["eng", "ops"]
    assert sum(cpus(offer) for offer in found) == 7.0


@pytest.mark.parametrize("change", ["deactivated", "suspect", "cut", "down"])
def test_agent_that_must_rest_is_not_offered(change: str) -> None:
    world = World()
    agent = world.agent("a1")
    world.framework("f")
    match change:
        case "deactivated":
            agent.is_deactivated = True
        case "suspect":
            agent.liveness = Liveness.SUSPECT
        case "cut":
            agent.stream = None
        case _:
            world.plan(agent, mode="DOWN")

    assert world.run()["f"] == []


def test_suppressed_roles_get_nothing() -> None:
    world = World()
    world.agent("a1")
    framework = world.framework("f", "x", "y")
    framework.suppressed = frozenset({"x"})

    [offer] = world.run()["f"]

    assert offer["allocation_info"]["role"] == "y"


def test_minimums_of_a_framework_replace_those_of_the_master() -> None:
    world = World()
    world.agent("small", "disk:10")
    world.agent("big", "cpus:8;mem:64")

    def least(*alternatives: Json) -> Json:
        quantities = [{"quantities": alternative} for alternative in alternatives]
        return {"x": {"min_allocatable_resources": {"quantities": quantities}}}

    world.framework("any", "x", offer_filters=least())
    assert agents_of(world.run()["any"]) == ["big", "small"]
    world.decline(world.cluster.frameworks["any"], 60.0)

    world.framework("picky", "x", offer_filters=least({"cpus": {"value": 9}}))
    assert world.run()["picky"] == []


def test_constraints_choose_agents() -> None:
    world = World()
    for rack in ("r1", "r2"):
        text = {"name": "rack", "type": "TEXT", "text": {"value": rack}}
        world.agent(f"on-{rack}", attributes=[text])
    framework = world.framework("f")
    test = {
        "selector": {"attribute_name": "rack"},
        "predicate": {"text_matches": {"regex": "r[2-9]"}},
    }
    groups = {"*": {"groups": [{"attribute_constraints": [test]}]}}
    framework.constraints = from_json(OfferConstraints, {"role_constraints": groups})
    assert agents_of(world.run()["f"]) == ["on-r2"]

    told = world.allocator.excluded()["f"]
    assert told == {
        "suppressed_roles": [],
        "excluded_by_attribute_constraints": {"*": ["on-r1"]},
    }

    framework.constraints = None
    assert agents_of(world.run()["f"]) == ["on-r1"]


def test_agents_of_another_region_need_a_capability() -> None:
    world = World(Rules(region="eu"))
    for region in ("eu", "us"):
        domain = {"fault_domain": {"region": {"name": region}, "zone": {"name": "1"}}}
        world.agent(region, domain=domain)
    framework = world.framework("f")
    assert agents_of(world.run()["f"]) == ["eu"]

    world.decline(framework)
    world.framework("far", takes="REGION_AWARE")
    assert "us" in agents_of(world.run()["far"])


def test_a_shared_volume_is_offered_while_it_is_in_use() -> None:
    world = World()
    agent = world.agent("a1", "cpus:4;mem:1024")
    body = {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": 10},
        "role": "web",
        "shared": {},
        "disk": {"persistence": {"id": "v"}, "volume": {"container_path": "v", "mode": "RW"}},
    }
    volume = Resources.of([from_json(Resource, body)])
    agent.total += volume
    world.framework("plain", "web")
    sharing = world.framework("sharing", "web", takes="SHARED_RESOURCES")
    agent.used += volume

    world.run()
    world.decline(world.cluster.frameworks["plain"], 60.0)
    world.decline(sharing, None)
    [offer] = world.run()["sharing"]

    assert [item["name"] for item in offer["resources"]] == ["cpus", "mem", "disk"]
    assert world.run()["sharing"] == []  # a volume in use is no offer by itself


# Quota


def test_quota_limits_a_tree_over_many_runs() -> None:
    world = World()
    for number in range(4):
        world.agent(f"a{number}")
    world.framework("f", "eng/dev")
    world.framework("g", "eng/test")
    world.cluster.quotas["eng"] = from_json(
        QuotaConfig, {"role": "eng", "limits": {"cpus": {"value": 6}}}
    )

    found = [offer for _ in range(3) for offers in world.run().values() for offer in offers]

    assert sum(cpus(offer) for offer in found) == 6.0


def test_reservations_use_quota_up() -> None:
    world = World()
    agent = world.agent("a1", "cpus:4;cpus(eng):4")
    world.framework("f", "eng")
    world.cluster.quotas["eng"] = from_json(
        QuotaConfig, {"role": "eng", "limits": {"cpus": {"value": 5}}}
    )

    [offer] = world.run()["f"]
    assert cpus(offer) == 5.0

    [id] = list(world.cluster.offers)
    world.cluster.remove_offer(world.cluster.offers[id])
    part = Resources.parse("cpus:1")
    made = Resources.parse("cpus(eng):1")
    world.cluster.convert(agent, Conversion(part, made))
    [offer] = world.run()["f"]
    assert cpus(offer) == 5.0
    assert all(item.get("role") == "eng" for item in offer["resources"])


# Turns


def test_run_after_an_event_asks_only_of_its_agents() -> None:
    world = World()
    world.agent("a1")
    world.agent("a2")
    world.framework("f")

    assert agents_of(world.run("a2")["f"]) == ["a2"]
    assert agents_of(world.run()["f"]) == ["a1"]


def test_who_declines_without_a_filter_is_asked_again_by_the_timer_alone() -> None:
    world = World()
    world.agent("a1")
    framework = world.framework("f")
    world.run()
    world.decline(framework)

    assert world.run("a1")["f"] == []
    assert agents_of(world.run()["f"]) == ["a1"]


def test_more_than_was_passed_on_is_offered_by_share_again() -> None:
    world = World()
    agent = world.agent("a1")
    poor = world.framework("poor", "x")
    world.run()
    world.decline(poor)
    rich = world.framework("rich", "y")
    world.agent("a2", "cpus:1;mem:64")
    world.cluster.filters.refuse(("poor", "x"), "a2", Resources.parse("cpus:1;mem:64"), None)
    assert agents_of(world.run("a1", "a2")["rich"]) == ["a1", "a2"]
    for id in list(rich.offers):
        if world.cluster.offers[id].agent_id == "a1":
            world.cluster.remove_offer(world.cluster.offers[id])

    agent.total += Resources.parse("cpus:1")  # rich holds a2, poor nothing

    assert agents_of(world.run("a1")["poor"]) == ["a1"]


def test_one_greedy_framework_does_not_starve_the_others() -> None:
    """It holds nothing, so its share is always the least, and it declines without a filter."""
    world = World()
    world.agent("a1")
    world.agent("a2")
    greedy = world.framework("a-greedy", "x")
    modest = world.framework("modest", "y")
    world.run()
    for framework in (greedy, modest):
        world.decline(framework)
    world.allocator.allocate_once()
    while not modest.offers:
        world.decline(greedy)
        world.allocator.allocate_once()
    for id in list(modest.offers)[1:]:
        world.cluster.remove_offer(world.cluster.offers[id])
    world.use(modest, "t1", "cpus:1")  # from now on its share is more than nothing

    asked = 0
    for _ in range(6):
        world.decline(greedy)
        asked += len(world.run()["modest"])
        world.decline(modest)

    assert asked >= 3


def test_growth_is_offered_in_spite_of_a_filter() -> None:
    world = World()
    agent = world.agent("a1")
    framework = world.framework("f")
    world.run()
    world.decline(framework, 60.0)
    assert world.run()["f"] == []

    agent.total += Resources.parse("cpus:1")

    assert cpus(world.run()["f"][0]) == 5.0


@pytest.mark.parametrize("pauses", range(8))
def test_nothing_of_a_run_is_kept_that_changed_while_it_was_made(pauses: int) -> None:
    world = World()
    for name in ("a1", "a2", "a3"):
        world.agent(name)
    world.framework("stays")
    goes = world.framework("goes")
    work = world.allocator._work(None, is_batch=True)
    for _ in range(pauses):
        next(work, None)
    before = set(world.cluster.offers)
    world.cluster.agents["a1"].is_deactivated = True
    goes.stream = None
    world.cluster.agents["a2"].used = Resources.parse("cpus:1")

    for _ in work:
        pass

    after = [offer for id, offer in world.cluster.offers.items() if id not in before]
    assert {offer.framework_id for offer in after} <= {"stays"}
    assert "a1" not in {offer.agent_id for offer in after}
    for agent in world.cluster.agents.values():
        assert agent.used + agent.offered in agent.total or agent.offers & before


# Time


def test_offer_that_is_held_too_long_is_rescinded_without_a_filter() -> None:
    world = World(timing=Timing(offer_seconds=10.0))
    world.agent("a1")
    framework = world.framework("f")
    [offer] = world.run()["f"]
    world.clock.time += 9.9
    world.allocator.expire()
    assert of(framework, "RESCIND") == []

    world.clock.time += 0.2
    world.allocator.expire()

    assert of(framework, "RESCIND") == [{"offer_id": offer["id"]}]
    assert len(world.run()["f"]) == 1


def test_whitelist_chooses_agents() -> None:
    world = World()
    world.agent("a1")
    world.agent("a2")
    world.framework("f")
    world.allocator.allow(frozenset({"a2"}))
    assert agents_of(world.run()["f"]) == ["a2"]

    world.allocator.allow(None)
    assert agents_of(world.run()["f"]) == ["a1"]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - a condition of the code under test, not an event
            await asyncio.sleep(0.01)


async def test_loop_runs_on_its_timer_and_after_a_poke_and_reads_the_whitelist(
    tmp_path: Path,
) -> None:
    allowed = tmp_path / "whitelist"
    allowed.write_text('["a1"]')
    timing = Timing(interval=0.2, whitelist_seconds=0.02)
    world = World(timing=timing, clock=SystemClock(), whitelist=allowed)
    world.agent("a1")
    framework = world.framework("f")
    running = asyncio.get_running_loop().create_task(world.allocator.run())
    await until(lambda: len(framework.offers) == 1)
    world.agent("a2")
    world.allocator.poke(["a2"])
    before = world.allocator.runs
    await until(lambda: world.allocator.runs >= before + 2)
    assert len(framework.offers) == 1
    allowed.write_text('["a1", "a2"]')
    await until(lambda: len(framework.offers) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# Maintenance


def test_holders_are_asked_to_leave_once_and_again_when_their_answer_is_over() -> None:
    world = World()
    agent = world.agent("a1")
    holder = world.framework("f")
    bystander = world.framework("g", "other")
    world.run()
    other = bystander if bystander.offers else holder
    if other is bystander:
        holder, bystander = bystander, holder
    world.plan(agent)

    world.allocator.allocate_once(["a1"])
    [sent] = of(holder, "INVERSE_OFFERS")
    [asked] = sent["inverse_offers"]
    assert asked["agent_id"] == {"value": "a1"}
    assert asked["unavailability"] == SOON
    assert of(bystander, "INVERSE_OFFERS") == []
    world.allocator.allocate_once()
    assert of(holder, "INVERSE_OFFERS") == []

    answered = world.cluster.inverse_offers[asked["id"]["value"]]
    world.cluster.remove_inverse_offer(answered)
    world.cluster.filters.refuse_inverse(holder.id, "a1", world.clock.now() + 5.0)
    world.allocator.allocate_once()
    assert of(holder, "INVERSE_OFFERS") == []
    world.clock.time += 5.0
    world.allocator.allocate_once()
    assert len(of(holder, "INVERSE_OFFERS")) == 1


async def test_a_plan_makes_offers_and_filters_void() -> None:
    world = World()
    agent = world.agent("a1")
    framework = world.framework("f")
    plans = Maintenance(
        world.cluster,
        MemoryStore(),
        poke=world.allocator.poke,
        shut_down=lambda agents, why: None,
    )
    world.run()
    world.decline(framework, 3600.0)
    world.framework("g", "other")
    [held] = world.run()["g"]
    window = {"machine_ids": [{"hostname": "A1"}], "unavailability": SOON}

    await plans.update(from_json(Schedule, {"windows": [window]}))

    assert of(world.cluster.frameworks["g"], "RESCIND") == [{"offer_id": held["id"]}]
    found = [offer for offers in world.run().values() for offer in offers]
    assert [offer["unavailability"] for offer in found] == [SOON]
    assert world.cluster.filters.view(agent.id, world.clock.now()) == ()


def test_end_of_a_plan_takes_the_question_back() -> None:
    world = World()
    agent = world.agent("a1")
    framework = world.framework("f")
    world.run()
    world.plan(agent)
    world.allocator.allocate_once()
    [sent] = of(framework, "INVERSE_OFFERS")
    [asked] = sent["inverse_offers"]

    agent.unavailability = None
    world.cluster.machines.clear()
    world.allocator.allocate_once()

    assert of(framework, "RESCIND_INVERSE_OFFER") == [{"inverse_offer_id": asked["id"]}]
    assert world.cluster.inverse_offers == {}


# Sums and metrics


def test_sums_agree_with_the_cluster_after_a_random_life() -> None:
    rng = Random(11)
    world = World()
    frameworks = [world.framework(f"f{n}", ["x", "x/y", "z"][n % 3]) for n in range(5)]
    for step in range(300):
        match rng.randrange(6):
            case 0:
                world.agent(f"a{step}", rng.choice(["cpus:4", "cpus:2;cpus(x):1", "mem:64"]))
            case 1 if world.cluster.agents:
                agent = rng.choice(list(world.cluster.agents.values()))
                for offer in world.cluster.offers_of(agent):
                    world.cluster.remove_offer(offer)
                world.cluster.remove_agent(agent)
            case 2:
                world.decline(rng.choice(frameworks), rng.choice([None, 5.0]))
            case 3 if world.cluster.agents:
                agent = rng.choice(list(world.cluster.agents.values()))
                agent.is_deactivated = not agent.is_deactivated
            case 4 if world.cluster.agents:
                world.run(rng.choice(list(world.cluster.agents)))
            case _:
                world.clock.time += 1.0
                world.run()
        for agent in world.cluster.agents.values():
            assert agent.offered in agent.total
    world.cluster.frameworks["f0"].suppressed = frozenset({"x"})
    world.run()
    world.allocator.allocate_once()
    stock = world.allocator._stock
    agents = world.cluster.agents.values()
    total = sum((agent.total for agent in agents), Resources()).scalars
    assert {name: amount for name, amount in stock.total.items() if amount} == dict(total)
    reserved = sum((agent.total.reserved for agent in agents), Resources()).scalars
    assert {n: a for n, a in stock.reserved.get("x", {}).items() if a} == dict(reserved)
    free: dict[str, int] = {}
    for agent in agents:
        if agent.is_offerable:
            for name, amount in agent.free.unreserved.scalars.items():
                free[name] = free.get(name, 0) + amount
    for id in world.cluster.agents:
        list(stock.look([id], world.clock.now()))
    assert {name: amount for name, amount in stock.available.items() if amount} == free


def test_metrics_have_mesos_names() -> None:
    world = World()
    world.agent("a1")
    framework = world.framework("f", "eng/dev")
    world.cluster.quotas["eng"] = from_json(
        QuotaConfig,
        {
            "role": "eng",
            "guarantees": {"cpus": {"value": 1}},
            "limits": {"cpus": {"value": 8}},
        },
    )
    world.run()

    found = world.allocator.metrics()

    prefix = "allocator/mesos"
    assert found[f"{prefix}/allocation_runs"] == 1.0
    assert found[f"{prefix}/allocation_run_ms/count"] == 1.0
    assert found[f"{prefix}/resources/cpus/total"] == 4.0
    assert found[f"{prefix}/resources/cpus/offered_or_allocated"] == 4.0
    assert found[f"{prefix}/roles/eng/dev/shares/dominant"] == 1.0
    assert found[f"{prefix}/quota/roles/eng/resources/cpus/guarantee"] == 1.0
    assert found[f"{prefix}/quota/roles/eng/resources/cpus/limit"] == 8.0
    assert found[f"{prefix}/quota/roles/eng/resources/cpus/offered_or_allocated"] == 4.0
    assert found[f"{prefix}/quota/roles/eng/resources/cpus/consumed"] == 4.0
    world.decline(framework, 60.0)
    assert world.allocator.metrics()[f"{prefix}/offer_filters/roles/eng/dev/active"] == 1.0
