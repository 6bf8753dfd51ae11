"""Both forms of every message: what is written is read back, and both say the same."""

import json
import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.mesos.messages import KINDS, any_message, kinds_of

from phalanx.core.error import InvalidError
from phalanx.mesos import agent_protocol
from phalanx.mesos.v1 import agent, master, mesos, scheduler
from phalanx.mesos.v1.codec import Message, decode, encode, from_json
from phalanx.mesos.v1.media import Media, accepts, accepts_gzip
from phalanx.mesos.v1.mesos import (
    AgentID,
    CapabilityType,
    ContainerID,
    FrameworkInfo,
    Labels,
    Scalar,
    TaskID,
    TaskState,
    TaskStatus,
)
from phalanx.mesos.v1.protobuf import decode_protobuf, encode_protobuf, has_protobuf
from phalanx.mesos.v1.scheduler import Call, Event
from phalanx.mesos.v1.shape import Enum, shapes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_numbers_and_names_are_unique_and_in_bounds(kind: type[Message]) -> None:
    numbers = [shape.number for shape in shapes(kind)]

    assert has_protobuf(kind)
    assert len(set(numbers)) == len(numbers)
    for shape in shapes(kind):
        if isinstance(shape.of, Enum):
            assert len(set(shape.of.numbers.values())) == len(shape.of.numbers)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_message_says_the_same_in_both_forms(kind: type[Message]) -> None:
    for seed in range(10):
        message = any_message(kind, Random(seed))

        assert decode(kind, encode(message)) == message
        assert decode_protobuf(kind, encode_protobuf(message)) == message
        assert from_json(kind, json.loads(encode(message))) == message


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Call, Event, master.Response, agent.Call]), st.integers(0, 2**32))
def test_whole_trees_say_the_same_in_both_forms(kind: type[Message], seed: int) -> None:
    message = any_message(kind, Random(seed))

    as_json, as_protobuf = encode(message), encode_protobuf(message)

    assert json.loads(encode(decode_protobuf(kind, as_protobuf))) == json.loads(as_json)
    assert decode_protobuf(kind, encode_protobuf(decode(kind, as_json))) == message


def test_private_messages_have_no_protobuf() -> None:
    assert not has_protobuf(agent_protocol.AgentCall)
    assert any(has_protobuf(kind) for kind in kinds_of(scheduler))


def read_or_refused(
    read: Callable[[type[Message], bytes], Message], kind: type[Message], raw: bytes
) -> Message | None:
    """Return the message, or None when it was refused in words and in no other way."""
    message = None
    refusal = InvalidError("Failed to")
    try:
        message = read(kind, raw)
    except InvalidError as error:
        refusal = error
    assert str(refusal).startswith("Failed to")
    return message


@pytest.mark.parametrize("kind", [Call, Event, TaskStatus, master.Call, agent.Call])
@given(raw=st.binary(max_size=200))
@example(raw=b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")
@example(raw=b"\x0a\xff")
def test_any_bytes_are_a_message_or_refused(kind: type[Message], raw: bytes) -> None:
    for read in (decode, decode_protobuf):
        message = read_or_refused(read, kind, raw)
        if message is not None:
            assert decode(kind, encode(message)) == message


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([Call, Event, master.Call, agent.Call]),
    st.integers(0, 2**32),
    st.integers(0, 10_000),
    st.binary(max_size=4),
)
def test_a_mutated_message_is_a_message_or_refused(
    kind: type[Message], seed: int, place: int, what: bytes
) -> None:
    message = any_message(kind, Random(seed))
    for write, read in ((encode, decode), (encode_protobuf, decode_protobuf)):
        raw = write(message)
        place = place % (len(raw) + 1)
        found = read_or_refused(read, kind, raw[:place] + what + raw[place + len(what) :])
        if found is not None:
            encode(found)
            encode_protobuf(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([shape.name for shape in shapes(TaskStatus)]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_json_is_a_message_or_refused(value: object) -> None:
    read_or_refused(decode, TaskStatus, json.dumps(value).encode())


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        pytest.param(Scalar, '{"value":Infinity}', Scalar(value=math.inf), id="bare-infinity"),
        pytest.param(Scalar, '{"value":"-Infinity"}', Scalar(value=-math.inf), id="as-text"),
        pytest.param(Scalar, '{"value":1}', Scalar(value=1.0), id="whole-double"),
        pytest.param(Scalar, '{"value":"1.5e2"}', Scalar(value=150.0), id="exponent-as-text"),
        pytest.param(
            mesos.TimeInfo, '{"nanoseconds":5.0}', mesos.TimeInfo(nanoseconds=5), id="int-as-double"
        ),
        pytest.param(
            mesos.TimeInfo, '{"nanoseconds":5.7}', mesos.TimeInfo(nanoseconds=5), id="fraction-cut"
        ),
        pytest.param(
            mesos.TimeInfo,
            '{"nanoseconds":"9223372036854775807"}',
            mesos.TimeInfo(nanoseconds=2**63 - 1),
            id="int-as-text",
        ),
        pytest.param(
            mesos.Range,
            '{"begin":0,"end":18446744073709551615}',
            mesos.Range(begin=0, end=2**64 - 1),
            id="greatest-uint64",
        ),
        pytest.param(TaskID, '{"value":"a","value":"b"}', TaskID(value="b"), id="last-key-wins"),
        pytest.param(
            FrameworkInfo,
            '{"user":"u","name":"n","capabilities":[{"type":"NEW"},null,{"type":"MULTI_ROLE"}]}',
            FrameworkInfo(
                user="u",
                name="n",
                capabilities=(mesos.Capability(), mesos.Capability(type="MULTI_ROLE")),
            ),
            id="unknown-name-and-null-dropped",
        ),
        pytest.param(
            mesos.CapabilityInfo,
            '{"capabilities":["BAD","CHOWN"]}',
            mesos.CapabilityInfo(capabilities=("CHOWN",)),
            id="unknown-name-in-a-list-dropped",
        ),
        pytest.param(
            mesos.ResourceQuantities,
            '{"quantities":{"cpus":{"value":"2"},"mem":null}}',
            mesos.ResourceQuantities(quantities={"cpus": Scalar(value=2.0)}),
            id="map",
        ),
        pytest.param(
            Call,
            '{"type":"REQUEST","request":{"requests":{"agent_id":{"value":"a"}}}}',
            Call(
                type="REQUEST",
                request=scheduler.Request(
                    requests=(mesos.Request(agent_id=AgentID(value="a")),),
                ),
            ),
            id="request-of-the-same-name",
        ),
        pytest.param(
            Labels, '{"labels":{"key":"k"}}', Labels(labels=(mesos.Label(key="k"),)), id="lone"
        ),
    ],
)
def test_forms_that_mesos_takes(kind: type[Message], body: str, message: Message) -> None:
    assert decode(kind, body.encode()) == message


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        pytest.param(Scalar, '{"value":NaN}', "parse body into JSON: ", id="bare-nan"),
        pytest.param(Scalar, '{"value":"NaN"}', "parse 'NaN' as a JSON number for", id="nan"),
        pytest.param(Scalar, '{"value":true}', "Not expecting a JSON boolean for", id="boolean"),
        pytest.param(TaskID, '{"value":5}', "Not expecting a JSON number for", id="number"),
        pytest.param(TaskID, '{"value":["a"]}', "Not expecting a JSON array for", id="array"),
        pytest.param(TaskID, '{"value":{}}', "Not expecting a JSON object for", id="object"),
        pytest.param(TaskID, '{"value":null}', "Missing required fields: value", id="null"),
        pytest.param(TaskID, "[]", "Expecting a JSON object", id="list"),
        pytest.param(TaskID, "null", "Expecting a JSON object", id="nothing"),
        pytest.param(TaskID, '{"value":"a"} x', "parse body into JSON: ", id="trailing"),
        pytest.param(TaskID, '{"value":"\\ud800"}', "parse body into JSON: ", id="half-a-pair"),
        pytest.param(
            mesos.TimeInfo, '{"nanoseconds":1e30}', "Value out of range for", id="too-great"
        ),
        pytest.param(
            mesos.Range, '{"begin":0,"end":18446744073709551616}', "Value out of range", id="uint65"
        ),
        pytest.param(
            mesos.Range, f'{{"begin":0,"end":{"9" * 400}}}', "Value out of range|JSON", id="googol"
        ),
        pytest.param(
            mesos.TimeInfo, f'{{"nanoseconds":{"9" * 6000}}}', "parse body into JSON", id="huge"
        ),
        pytest.param(
            mesos.Resource,
            '{"name":"a","type":"BAD"}',
            "Failed to find enum for 'BAD'",
            id="unknown-name-in-a-required-field",
        ),
        pytest.param(
            Call,
            '{"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"!!"}}',
            "Failed to base64 decode bytes field 'uuid': Invalid character '!'",
            id="bytes",
        ),
        pytest.param(
            Call,
            '{"type":"SUBSCRIBE","subscribe":{"framework_info":{}}}',
            "Missing required fields: subscribe.framework_info.user, subscribe.framework_info.name",
            id="missing",
        ),
        pytest.param(
            Call,
            '{"accept":{"offer_ids":[{"value":"a"},{}]}}',
            r"Missing required fields: accept.offer_ids\[1\].value",
            id="missing-in-a-list",
        ),
    ],
)
def test_refusals_have_mesos_words(kind: type[Message], body: str, words: str) -> None:
    with pytest.raises(InvalidError, match=f"^Failed to .*{words}"):
        decode(kind, body.encode())


def test_nesting_ends_somewhere() -> None:
    body = '{"value":"x"}'
    for _ in range(100):
        body = f'{{"value":"x","parent":{body}}}'
    for raw in (body, body.replace('"x","parent"', '"x","parent"'), '{"a":' * 100_000):
        with pytest.raises(InvalidError, match="Failed to"):
            decode(ContainerID, raw.encode())


def test_half_a_surrogate_pair_is_written_as_a_question_mark() -> None:
    message = TaskID(value="a\ud800b")

    assert decode(TaskID, encode(message)) == TaskID(value="a?b")
    assert decode_protobuf(TaskID, encode_protobuf(message)) == TaskID(value="a?b")


def test_infinity_is_bare_and_texts_that_look_like_null_stay() -> None:
    assert encode(Scalar(value=math.inf)) == b'{"value":Infinity}'
    assert encode(Scalar(value=-math.inf)) == b'{"value":-Infinity}'
    assert encode(Scalar(value=1.0)) == b'{"value":1.0}'
    assert encode(TaskID(value=":null,")) == b'{"value":":null,"}'


def test_an_unknown_enum_number_is_unset_and_unknown_fields_are_ignored() -> None:
    known = encode_protobuf(Call(type="ACCEPT"))

    assert decode_protobuf(Call, b"\x10\x63" + known[2:]) == Call()
    assert decode_protobuf(Call, known + b"\xfa\x3f\x01x") == Call(type="ACCEPT")


def test_a_missing_field_is_refused_in_mesos_words() -> None:
    with pytest.raises(InvalidError, match=r"^Failed to parse body into TaskStatus protobuf$"):
        decode_protobuf(TaskStatus, encode_protobuf(Labels()))


def test_bytes_of_protobuf_are_those_of_the_schema() -> None:
    status = TaskStatus(
        task_id=TaskID(value="t"),
        state=TaskState.TASK_STAGING,
        agent_id=AgentID(value="a"),
        healthy=False,
    )

    assert encode_protobuf(status) == bytes.fromhex("0a030a017410062a030a01614000")
    assert CapabilityType is not None


@pytest.mark.parametrize(
    ("header", "json", "protobuf"),
    [
        (None, True, True),
        ("*/*", True, True),
        ("application/json", True, False),
        ("APPLICATION/JSON", True, False),
        ("application/x-protobuf", False, True),
        ("application/*;q=0.5", True, True),
        ("application/json;q=0, application/x-protobuf", False, True),
        ("application/json;q=0, */*", False, True),
        ("*/*;q=0", False, False),
        ("text/html", False, False),
        ("", False, False),
        ("text/html, application/json;q=0.001", True, False),
        ("application/json; q = nonsense", True, False),
    ],
)
def test_accept(header: str | None, json: bool, protobuf: bool) -> None:
    assert (accepts(header, Media.JSON), accepts(header, Media.PROTOBUF)) == (json, protobuf)


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        (None, False),
        ("gzip", True),
        ("GZip, deflate", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("identity, *;q=0", False),
        ("deflate", False),
        ("", False),
        ("deflate, gzip;q=0.1", True),
    ],
)
def test_accept_encoding(header: str | None, takes: bool) -> None:
    assert accepts_gzip(header) is takes
