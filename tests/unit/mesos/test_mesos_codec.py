"""Mesos' JSON rules (reference mesos §0.2), in and out."""

import pytest

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.codec import decode, encode, from_json, to_json
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    FrameworkInfo,
    IPAddress,
    Label,
    Labels,
    TaskState,
    TaskStatus,
)
from phalanx.mesos.v1.scheduler import Call

SUBSCRIBE = b'{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"%s}}}'


def subscribed(extra: bytes) -> FrameworkInfo:
    call = decode(Call, SUBSCRIBE % extra)
    assert call.subscribe is not None
    return call.subscribe.framework_info


def test_declared_defaults_are_written_and_unset_fields_are_not() -> None:
    assert encode(FrameworkInfo(user="u", name="n")) == (
        b'{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false}'
    )
    assert encode(CommandInfo(value="true")) == b'{"shell":true,"value":"true"}'
    assert to_json(IPAddress(ip_address="1.2.3.4")) == {
        "protocol": "IPv4",
        "ip_address": "1.2.3.4",
    }


def test_empty_lists_are_left_out_and_full_ones_written() -> None:
    assert encode(Labels()) == b"{}"
    assert encode(Labels(labels=(Label(key="k"),))) == b'{"labels":[{"key":"k"}]}'


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        pytest.param(b',"nosuch":{"a":1}', "name", "n", id="unknown-field-ignored"),
        pytest.param(b',"hostname":null', "hostname", None, id="null-is-absent"),
        pytest.param(b',"roles":null', "roles", (), id="null-list-is-empty"),
        pytest.param(b',"roles":"a"', "roles", ("a",), id="lone-value-for-list"),
        pytest.param(b',"checkpoint":"true"', "checkpoint", True, id="boolean-as-string"),
        pytest.param(b',"failover_timeout":"5.5"', "failover_timeout", 5.5, id="double-as-string"),
    ],
)
def test_lenient_forms_are_taken(extra: bytes, field: str, value: object) -> None:
    assert getattr(subscribed(extra), field) == value


def test_lone_object_stands_for_a_list_of_one() -> None:
    capabilities = subscribed(b',"capabilities":{"type":"MULTI_ROLE"}').capabilities

    assert [capability.type for capability in capabilities] == ["MULTI_ROLE"]


def test_bytes_are_base64() -> None:
    status = decode(
        TaskStatus,
        b'{"task_id":{"value":"t"},"state":"TASK_RUNNING","uuid":"AAECAwQFBgcICQoLDA0ODw=="}',
    )

    assert status.uuid == bytes(range(16))
    assert status.state is TaskState.TASK_RUNNING
    assert b'"uuid":"AAECAwQFBgcICQoLDA0ODw=="' in encode(status)


def test_what_to_json_gives_from_json_takes() -> None:
    labels = Labels(labels=(Label(key="a"), Label(key="b", value="c")))

    assert from_json(Labels, to_json(labels)) == labels


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"{", "Failed to parse body into JSON", id="no-json"),
        pytest.param(b'{"type":"SUBSCRIBE","subscribe":{}}', "framework_info", id="required"),
        pytest.param(b'{"type":"\xff"}', "Failed to parse body into JSON", id="no-utf-8"),
        pytest.param(b'{"type":[1e400]}', "Failed to parse body into JSON", id="no-number"),
        pytest.param(b"[]", "Failed to convert JSON into Call", id="no-object"),
        pytest.param(b'{"kill":{"task_id":7}}', "task_id", id="wrong-type"),
    ],
)
def test_what_cannot_be_a_call_is_refused_with_the_reason(body: bytes, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        decode(Call, body)


def test_unknown_state_in_a_required_field_is_refused() -> None:
    with pytest.raises(InvalidError):
        decode(TaskStatus, b'{"task_id":{"value":"t"},"state":"TASK_DANCING"}')
