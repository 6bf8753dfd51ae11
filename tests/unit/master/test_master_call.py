"""Structural validation of scheduler calls, and FrameworkInfo rules."""

import re

import msgspec
import pytest

from phalanx.core.error import InvalidError
from phalanx.master.scheduler.call import check_call
from phalanx.master.scheduler.framework_info import (
    Policy,
    check_info,
    check_update,
    id_problem,
    renewed,
)
from phalanx.mesos.role import role_problem
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import FrameworkInfo
from phalanx.mesos.v1.scheduler import Call

UUID = "AAAAAAAAAAAAAAAAAAAAAA=="
ID = {"framework_id": {"value": "f"}}
INFO = {"user": "root", "name": "marathon"}
ACK = {"agent_id": {"value": "a"}, "task_id": {"value": "t"}}

GOOD = {
    "subscribe": {"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}},
    "subscribe-empty-id": {
        "framework_id": {"value": ""},
        "type": "SUBSCRIBE",
        "subscribe": {"framework_info": INFO},
    },
    "subscribe-again": ID
    | {"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO | {"id": {"value": "f"}}}},
    "teardown": ID | {"type": "TEARDOWN"},
    "revive-all": ID | {"type": "REVIVE"},
    "suppress-all": ID | {"type": "SUPPRESS"},
    "reconcile": ID | {"type": "RECONCILE", "reconcile": {}},
    "acknowledge": ID | {"type": "ACKNOWLEDGE", "acknowledge": ACK | {"uuid": UUID}},
    "literal-unknown": ID | {"type": "UNKNOWN"},
}
BAD = {
    "no-type": ({}, "Expecting 'type' to be present"),
    "unknown-type": ({"type": "NOSUCH"}, "Expecting 'type' to be present"),
    "bare-subscribe": ({"type": "SUBSCRIBE"}, "Expecting 'subscribe' to be present"),
    "two-ids": (
        ID | {"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}},
        "'framework_id' differs from 'subscribe.framework_info.id'",
    ),
    "no-framework": ({"type": "DECLINE", "decline": {}}, "Expecting 'framework_id' to be present"),
    "bare-kill": (ID | {"type": "KILL"}, "Expecting 'kill' to be present"),
    "bare-accept": (ID | {"type": "ACCEPT"}, "Expecting 'accept' to be present"),
    "short-uuid": (
        ID | {"type": "ACKNOWLEDGE", "acknowledge": ACK | {"uuid": "AAAA"}},
        "Not a valid UUID",
    ),
    "bare-request": (ID | {"type": "REQUEST"}, "Expecting 'request' to be present"),
    "bare-operations": (
        ID | {"type": "RECONCILE_OPERATIONS"},
        "Expecting 'reconcile_operations' to be present",
    ),
    "short-operation-uuid": (
        ID
        | {
            "type": "ACKNOWLEDGE_OPERATION_STATUS",
            "acknowledge_operation_status": {"uuid": "AAAA", "operation_id": {"value": "o"}},
        },
        "Not a valid UUID",
    ),
    "update-of-another": (
        ID | {"type": "UPDATE_FRAMEWORK", "update_framework": {"framework_info": INFO}},
        "differs from 'update_framework",
    ),
}


@pytest.mark.parametrize("call", GOOD.values(), ids=GOOD.keys())
def test_well_formed_call_passes(call: dict[str, object]) -> None:
    check_call(from_json(Call, call))


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_malformed_call_is_refused_in_mesos_words(call: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=f"^Failed to validate scheduler::Call: .*{message}"):
        check_call(from_json(Call, call))


MULTI = {"capabilities": [{"type": "MULTI_ROLE"}]}
REFUSED = {
    "role-and-roles": (MULTI | {"role": "a", "roles": ["b"]}, [], "'FrameworkInfo.role' must not"),
    "role-with-multi": (MULTI | {"role": "a"}, [], "'FrameworkInfo.role' must not be set"),
    "roles-without-multi": ({"roles": ["a"]}, [], "'FrameworkInfo.roles' must not be set"),
    "duplicates": (MULTI | {"roles": ["a", "b", "a"]}, [], "duplicate items: { a }"),
    "bad-role": ({"role": "a//b"}, [], "Role 'a//b' cannot contain two adjacent slashes"),
    "blank-role": ({"role": "a b"}, [], "contains backspace or whitespace"),
    "dashed-role": (MULTI | {"roles": ["-a"]}, [], "Role component '-a' is invalid because it"),
    "stranger-suppressed": ({"role": "a"}, ["b"], "Suppressed role 'b' is not contained"),
    "negative-timeout": ({"failover_timeout": -1.0}, [], "failover_timeout (-1) is invalid"),
    "endless-timeout": ({"failover_timeout": 1e30}, [], "failover_timeout (1e+30) is invalid"),
    "bad-id": ({"id": {"value": "a/b"}}, [], "'a/b' contains invalid characters"),
    "no-quantity": (
        {"offer_filters": {"*": {"min_allocatable_resources": {"quantities": [{}]}}}},
        [],
        "must contain at least one quantity",
    ),
    "negative-quantity": (
        {
            "offer_filters": {
                "*": {
                    "min_allocatable_resources": {
                        "quantities": [{"quantities": {"cpus": {"value": -1}}}]
                    }
                }
            }
        },
        [],
        "Invalid resource quantity for 'cpus': Negative values not supported",
    ),
}


@pytest.mark.parametrize(("fields", "suppressed", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_framework_info_that_breaks_a_rule_is_refused(
    fields: dict[str, object], suppressed: list[str], message: str
) -> None:
    info = from_json(FrameworkInfo, INFO | fields)

    with pytest.raises(InvalidError, match=re.escape(message)):
        check_info(info, suppressed)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(frozenset({"b"})), "{ a } are not present in the master's --roles"),
        (Policy(takes_root=False), "'root' is not allowed"),
    ],
    ids=["whitelist", "root"],
)
def test_framework_that_the_master_does_not_take_is_refused(policy: Policy, message: str) -> None:
    info = from_json(FrameworkInfo, INFO | {"role": "a"})

    with pytest.raises(InvalidError, match=message):
        check_info(info, [], policy)


@pytest.mark.parametrize(
    "fields",
    [{}, {"role": "*"}, {"role": "a/b"}, MULTI, MULTI | {"roles": ["a", "b/c"]}],
    ids=["plain", "star", "nested", "no-roles", "roles"],
)
def test_framework_info_within_the_rules_passes(fields: dict[str, object]) -> None:
    check_info(from_json(FrameworkInfo, INFO | fields), [])


def test_user_and_checkpoint_survive_a_resubscription() -> None:
    old = from_json(FrameworkInfo, INFO | {"checkpoint": True, "id": {"value": "f"}})
    new = from_json(FrameworkInfo, {"user": "other", "name": "renamed", "failover_timeout": 7.0})

    info = renewed(old, new)

    assert (info.user, info.checkpoint) == ("root", True)
    assert (info.name, info.failover_timeout, info.id) == ("renamed", 7.0, old.id)


def test_principal_never_changes() -> None:
    old = from_json(FrameworkInfo, INFO | {"principal": "p"})

    with pytest.raises(InvalidError, match="principal"):
        renewed(old, msgspec.structs.replace(old, principal="q"))


@pytest.mark.parametrize("field", ["principal", "user", "checkpoint"])
def test_update_framework_refuses_immutable_fields(field: str) -> None:
    old = from_json(FrameworkInfo, INFO)
    new = msgspec.structs.replace(old, **{field: True if field == "checkpoint" else "new"})

    with pytest.raises(InvalidError, match=field):
        check_update(old, new)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a\\b", "a\n", "x" * 256])
def test_bad_id_has_a_problem(id: str) -> None:
    assert id_problem(id) is not None


@pytest.mark.parametrize("role", ["*", "a", "a/b", "web-1"])
def test_good_role_has_no_problem(role: str) -> None:
    assert role_problem(role) is None


@pytest.mark.parametrize("role", ["", "/a", "a/", "-a", "a/*", "a/..", "a\tb"])
def test_bad_role_has_a_problem(role: str) -> None:
    assert role_problem(role) is not None
