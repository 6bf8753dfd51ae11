"""The seven operators, over every kind of attribute, and what scaling down does to groups."""

from random import Random
from typing import Any

import pytest

from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.model.instance import Condition, Instance, Launched
from phalanx.marathon.schedule.constraint import attributes_of, is_met
from phalanx.marathon.schedule.match import Matching, matching
from phalanx.marathon.schedule.victim import victims
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.codec import from_json

DOMAIN = {"fault_domain": {"region": {"name": "eu"}, "zone": {"name": "eu-1"}}}
RAW: list[dict[str, Any]] = [
    {"name": "rack", "type": "TEXT", "text": {"value": "r-1"}},
    {"name": "empty", "type": "TEXT", "text": {"value": ""}},
    {"name": "cores", "type": "SCALAR", "scalar": {"value": 4}},
    {"name": "load", "type": "SCALAR", "scalar": {"value": 0.12349}},
    {"name": "ports", "type": "RANGES",
     "ranges": {"range": [{"begin": 9, "end": 9}, {"begin": 1, "end": 3}]}},
    {"name": "disks", "type": "SET", "set": {"item": ["ssd", "hdd"]}},
]  # fmt: skip
MINE = attributes_of(
    "a1.example",
    [from_json(mesos.Attribute, raw) for raw in RAW],
    from_json(mesos.DomainInfo, DOMAIN),
)
TEXT_OF = {
    "hostname": "a1.example",
    "@hostname": "a1.example",
    "@region": "eu",
    "@zone": "eu-1",
    "rack": "r-1",
    "empty": "",
    "cores": "4",
    "load": "0.123",
    "ports": "[1-3,9-9]",
    "disks": "{hdd,ssd}",
}
NOT_OFFERED = "nothing"


def key(field: str) -> str:
    """Return what a field is called among attributes."""
    return "@hostname" if field == "hostname" else field


def others(field: str, *values: str) -> list[dict[str, str]]:
    """Return the attributes of agents that have instances already."""
    return [{key(field): value} for value in values]


@pytest.mark.parametrize("field", TEXT_OF)
def test_every_kind_of_attribute_is_text_to_every_operator(field: str) -> None:
    text = TEXT_OF[field]
    pattern = "".join(f"[{sign}]" if sign not in "[]{}" else f"\\{sign}" for sign in text)
    same, other = others(field, text), others(field, "else")
    cases = {
        ("UNIQUE",): (other, same),
        ("MAX_PER", "1"): (other, same),
        ("MAX_PER", "2"): (same, same * 2),
        ("GROUP_BY",): (other, [*same, *same, *other]),
    }
    for constraint, (good, bad) in cases.items():
        assert is_met([field, *constraint], MINE, good, 4), constraint
        assert not is_met([field, *constraint], MINE, bad, 4), constraint
    assert is_met([field, "LIKE", pattern], MINE, [], 4)
    assert not is_met([field, "UNLIKE", pattern], MINE, [], 4)
    assert not is_met([field, "LIKE", "else"], MINE, [], 4)
    assert is_met([field, "UNLIKE", "else"], MINE, [], 4)
    assert is_met([field, "CLUSTER"], MINE, [], 4)
    assert is_met([field, "CLUSTER"], MINE, same, 4)
    assert not is_met([field, "CLUSTER"], MINE, other, 4)
    if text:
        assert is_met([field, "CLUSTER", text], MINE, other, 4)
    assert not is_met([field, "CLUSTER", "else"], MINE, [], 4)
    assert not is_met([field, "IS", "else"], MINE, [], 4)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("rack", "r-1", True),
        ("rack", "r-10", False),
        ("cores", "4", True),
        ("cores", "4.000", True),
        ("cores", "4.0004", True),
        ("cores", "4.001", False),
        ("load", "0.12349", True),
        ("load", "0.123", True),
        ("load", "0.124", False),
        ("@region", "eu", True),
        ("@zone", "eu", False),
        ("hostname", "a1.example", True),
    ],
)
def test_is(field: str, value: str, expected: bool) -> None:
    assert is_met([field, "IS", value], MINE, [], 1) is expected


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (["UNIQUE"], False),
        (["CLUSTER"], False),
        (["CLUSTER", "x"], False),
        (["GROUP_BY"], False),
        (["GROUP_BY", "2"], False),
        (["LIKE", ".*"], False),
        (["UNLIKE", ".*"], True),
        (["MAX_PER", "9"], False),
        (["IS", ""], False),
    ],
)
def test_an_agent_without_the_attribute_satisfies_unlike_alone(
    constraint: list[str], expected: bool
) -> None:
    assert is_met([NOT_OFFERED, *constraint], MINE, [], 2) is expected


def offer(hostname: str, rack: str) -> mesos.Offer:
    """Return an offer of an agent in a rack, with room for all."""
    scalars = {"cpus": 99, "mem": 99999}
    resources: list[dict[str, Any]] = [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}}
        for name, value in scalars.items()
    ]
    return from_json(
        mesos.Offer,
        {
            "id": {"value": hostname},
            "framework_id": {"value": "f"},
            "agent_id": {"value": hostname},
            "hostname": hostname,
            "resources": resources,
            "attributes": [{"name": "rack", "type": "TEXT", "text": {"value": rack}}],
            "allocation_info": {"role": "*"},
        },
    )


AGENTS = [offer("a1", "r1"), offer("a2", "r1"), offer("a3", "r2"), offer("a4", "r3")]


def spread(count: int, *constraints: list[str]) -> Matching:
    """Place *count* instances on four agents in three racks."""
    raw = {"id": "/x", "cmd": "x", "cpus": 0.1, "mem": 1, "portDefinitions": []}
    app = parse_app({**raw, "instances": count, "constraints": list(constraints)})
    waiting = [
        (app, Instance(id=f"x.instance-{number}", app_id="/x", version="v", since=0))
        for number in range(count)
    ]
    return matching(AGENTS, waiting, {}, Random(3), None)


@pytest.mark.parametrize(
    ("constraints", "count", "racks", "unplaced"),
    [
        ([["rack", "UNIQUE"]], 5, {"r1": 1, "r2": 1, "r3": 1}, 2),
        ([["hostname", "UNIQUE"]], 5, {"r1": 2, "r2": 1, "r3": 1}, 1),
        ([["rack", "GROUP_BY"]], 6, {"r1": 2, "r2": 2, "r3": 2}, 0),
        ([["rack", "GROUP_BY", "3"]], 7, {"r1": 3, "r2": 2, "r3": 2}, 0),
        ([["rack", "GROUP_BY", "4"]], 8, {"r1": 2, "r2": 2, "r3": 2}, 2),
        ([["rack", "MAX_PER", "2"]], 9, {"r1": 2, "r2": 2, "r3": 2}, 3),
        ([["rack", "CLUSTER", "r2"]], 3, {"r2": 3}, 0),
        ([["rack", "LIKE", "r[23]"]], 4, {"r2": 2, "r3": 2}, 0),
        ([["rack", "UNLIKE", "r[23]"]], 4, {"r1": 4}, 0),
        ([["rack", "IS", "r3"]], 2, {"r3": 2}, 0),
        ([["rack", "LIKE", "r[12]"], ["hostname", "UNIQUE"]], 4, {"r1": 2, "r2": 1}, 1),
        ([["rack", "GROUP_BY", "2"], ["rack", "UNLIKE", "r1"]], 4, {"r2": 2, "r3": 2}, 0),
    ],
)  # fmt: skip
def test_instances_spread_as_asked(
    constraints: list[list[str]], count: int, racks: dict[str, int], unplaced: int
) -> None:
    found = spread(count, *constraints)

    placed = [placement.attributes["rack"] for placement in found.placements]
    assert found.unplaced == unplaced
    if constraints[0][1] == "GROUP_BY" and count == 7:  # which group is the larger is chance
        assert sorted(placed.count(rack) for rack in racks) == sorted(racks.values())
    else:
        assert {rack: placed.count(rack) for rack in set(placed)} == racks


def test_one_cluster_without_a_value_stays_where_it_began() -> None:
    found = spread(5, ["rack", "CLUSTER"])

    assert len({placement.attributes["rack"] for placement in found.placements}) == 1
    assert found.unplaced == 0


def running(number: int, rack: str | None) -> Instance:
    """Return an instance that runs in a rack."""
    attributes = {} if rack is None else {"rack": rack}
    launched = Launched(
        agent_id="a", hostname="a", agent_ip="a", staged_at=number, attributes=attributes
    )
    return Instance(
        id=f"i{number}",
        app_id="/x",
        version="v",
        since=0,
        condition=Condition.RUNNING,
        launched=launched,
    )


@pytest.mark.parametrize(
    ("racks", "count", "left"),
    [
        ("aaabbc", 1, "aabbc"),
        ("aaabbc", 3, "abc"),
        ("aaaab", 3, "ab"),
        ("aab", 1, "ab"),
        ("abc", 2, "a"),
        ("aabb", 2, "ab"),
    ],
)
@pytest.mark.parametrize("selection", ["YOUNGEST_FIRST", "OLDEST_FIRST"])
def test_scaling_down_keeps_groups_even(racks: str, count: int, left: str, selection: str) -> None:
    raw = {"id": "/x", "cmd": "x", "constraints": [["rack", "GROUP_BY"]]}
    app = parse_app({**raw, "killSelection": selection})
    instances = [running(number, rack) for number, rack in enumerate(racks)]

    dead = victims(app, instances, count)

    alive = [rack for instance, rack in zip(instances, racks, strict=True) if instance not in dead]
    counts = [alive.count(rack) for rack in set(alive)]
    assert max(counts) - min(counts) <= 1
    assert len(alive) == len(left)
