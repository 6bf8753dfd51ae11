"""Quota: what UPDATE_QUOTA, SET_QUOTA and REMOVE_QUOTA take, and how Mesos refuses the rest."""

import json
from typing import Any

import msgspec
import pytest

from phalanx.core.error import ConflictError, InvalidError
from phalanx.core.store.memory import MemoryStore
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.event import Bus
from phalanx.master.roles.quota import quota_status, requested, updated
from phalanx.master.roles.roles import Roles
from phalanx.mesos.v1.codec import encode, from_json
from phalanx.mesos.v1.quota import QuotaConfig, QuotaRequest

Json = dict[str, Any]
CAPACITY = {"cpus": 6000, "mem": 1024_000}
TWO, FOUR = {"cpus": {"value": 2}}, {"cpus": {"value": 4}}


def config(**fields: object) -> QuotaConfig:
    return from_json(QuotaConfig, fields)


def scalar(name: str, value: float, **more: object) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def after(*configs: QuotaConfig, is_forced: bool = False) -> dict[str, QuotaConfig]:
    consumed = {"busy": {"cpus": 3000}}
    return updated({}, configs, consumed=consumed, capacity=CAPACITY, is_forced=is_forced)


def test_quota_keeps_guarantees_and_limits() -> None:
    found = after(config(role="eng", guarantees=TWO, limits=FOUR))

    assert json.loads(encode(quota_status(found))) == {
        "infos": [
            {
                "role": "eng",
                "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 2.0}}],
            }
        ],
        "configs": [
            {
                "role": "eng",
                "guarantees": {"cpus": {"value": 2.0}},
                "limits": {"cpus": {"value": 4.0}},
            }
        ],
    }


def test_quota_that_says_nothing_takes_the_role_out() -> None:
    before = after(config(role="eng", limits=FOUR))

    found = updated(before, [config(role="eng")], consumed={}, capacity=CAPACITY, is_forced=False)

    assert found == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param(
            {"role": "eng/dev", "limits": TWO},
            "Updating quota on nested role 'eng/dev' is not supported yet",
            id="nested",
        ),
        pytest.param(
            {"role": "", "limits": TWO},
            "Invalid QuotaConfig: Invalid 'QuotaConfig.role': Role names cannot be the empty"
            " string",
            id="no-role",
        ),
        pytest.param(
            {"role": "eng", "guarantees": FOUR, "limits": TWO},
            "Invalid QuotaConfig: 'QuotaConfig.guarantees' { cpus: 4 } is not contained within"
            " the 'QuotaConfig.limits' { cpus: 2 }",
            id="guarantee-over-limit",
        ),
        pytest.param(
            {"role": "eng", "guarantees": {"cpus": {"value": 7}}},
            "Invalid QuotaConfig: total quota guarantees 'cpus:7' exceed cluster capacity"
            " 'cpus:6; mem:1024' (use 'force' flag to bypass this check)",
            id="over-capacity",
        ),
        pytest.param(
            {"role": "eng", "guarantees": {"cpus": {"value": -4}}},
            "Invalid QuotaConfig: Invalid guarantee configuration {'cpus': -4}: Negative values"
            " not supported",
            id="negative",
        ),
        pytest.param(
            {"role": "eng", "limits": {"mem": {"value": 2e12}}},
            "Invalid QuotaConfig: Invalid 'QuotaConfig.limits': {'mem': 2000000000000} is"
            " invalid: values greater than 1 exabyte (1099511627776) are not supported",
            id="exabyte",
        ),
        pytest.param(
            {"role": "eng", "limits": {"cpus": {"value": 2e12}}},
            "Invalid QuotaConfig: Invalid 'QuotaConfig.limits': {'cpus': 2000000000000} is"
            " invalid: values greater than 1 trillion (1000000000000) are not supported",
            id="trillion",
        ),
        pytest.param(
            {"role": "busy", "limits": TWO},
            "Invalid QuotaConfig: Role 'busy' is already consuming 'cpus:3'; this is more than"
            " the requested limits 'cpus:2' (use 'force' flag to bypass this check)",
            id="already-consumed",
        ),
    ],
)
def test_quota_is_refused_in_words(fields: Json, words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        after(config(**fields))

    assert str(caught.value) == words


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"role": "eng", "guarantees": {"cpus": {"value": 7}}}, id="over-capacity"),
        pytest.param({"role": "busy", "limits": TWO}, id="already-consumed"),
    ],
)
def test_force_overrides_what_the_cluster_has(fields: Json) -> None:
    assert list(after(config(**fields), is_forced=True)) == [fields["role"]]


def test_infinite_limits_are_refused() -> None:
    with pytest.raises(InvalidError, match="1 trillion"):
        after(config(role="eng", limits={"cpus": {"value": "Infinity"}}))


@pytest.mark.parametrize(
    ("guarantee", "words"),
    [
        pytest.param([], "QuotaInfo with empty 'guarantee'", id="empty"),
        pytest.param(
            [scalar("cpus", 1), scalar("cpus", 1)],
            "QuotaInfo contains duplicate resource name 'cpus'",
            id="twice",
        ),
        pytest.param(
            [scalar("cpus", 1, role="x")],
            "QuotaInfo must not contain any ReservationInfo",
            id="reserved",
        ),
        pytest.param(
            [scalar("cpus", 1, revocable={})],
            "QuotaInfo must not contain RevocableInfo",
            id="revocable",
        ),
        pytest.param(
            [
                {
                    "name": "ports",
                    "type": "RANGES",
                    "ranges": {"range": [{"begin": 1, "end": 2}]},
                }
            ],
            "QuotaInfo must not include non-scalar resources",
            id="ranges",
        ),
    ],
)
def test_set_quota_is_refused_in_words(guarantee: list[Json], words: str) -> None:
    request = from_json(QuotaRequest, {"role": "eng", "guarantee": guarantee})

    with pytest.raises(InvalidError) as caught:
        requested({}, request, capacity=CAPACITY)

    assert str(caught.value) == f"Failed to validate set quota request: {words}"


def test_set_quota_makes_the_guarantee_a_limit_and_conflicts_beyond_capacity() -> None:
    request = from_json(QuotaRequest, {"role": "eng", "guarantee": [scalar("cpus", 2)]})
    greedy = from_json(QuotaRequest, {"role": "all", "guarantee": [scalar("cpus", 60)]})

    found = requested({}, request, capacity=CAPACITY)

    assert found["eng"].limits == found["eng"].guarantees
    with pytest.raises(ConflictError, match="overcommit the cluster"):
        requested(found, greedy, capacity=CAPACITY)
    assert "all" in requested(found, msgspec.structs.replace(greedy, force=True), capacity=CAPACITY)


async def test_quota_and_weights_outlive_a_leader() -> None:
    store = MemoryStore()
    first = Cluster(Bus())
    roles = Roles(first, store, poke=lambda: None)
    await roles.load({"eng": 3.0})
    await roles.update_quota([config(role="eng", limits=FOUR)], is_forced=False)
    await roles.set_weights([])

    second = Cluster(Bus())
    await Roles(second, store, poke=lambda: None).load({"eng": 9.0})

    assert second.quotas == first.quotas
    assert second.weights == {"eng": 3.0}


async def test_quota_that_is_not_there_cannot_be_removed() -> None:
    roles = Roles(Cluster(Bus()), MemoryStore(), poke=lambda: None)

    with pytest.raises(InvalidError, match="Role 'eng' has no quota set"):
        await roles.remove_quota("eng")
