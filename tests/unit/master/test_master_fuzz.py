"""A master that is told nonsense in good form: it answers in words and goes on."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from tests.unit.master.http_lab import Client, FakeAgent, FakeFramework, Master
from tests.unit.mesos.messages import any_message

from phalanx.core.store.memory import MemoryStore
from phalanx.mesos.v1.codec import Message, encode
from phalanx.mesos.v1.master import Call as OperatorCall
from phalanx.mesos.v1.media import Media, encode_as
from phalanx.mesos.v1.mesos import AgentID, ContainerID, FrameworkID, OfferID, TaskID
from phalanx.mesos.v1.scheduler import Call as SchedulerCall
from phalanx.mesos.v1.shape import Enum, shapes

SEEDS = 150
DEADLINE = 60.0


def with_ids(message: Any, ids: dict[type[Message], str], random: Random) -> Any:
    """Return *message* with ids that the master knows in the place of most of its own."""
    if type(message) in ids and random.random() < 0.8:
        return type(message)(value=ids[type(message)])
    if isinstance(message, tuple):
        return tuple(with_ids(item, ids, random) for item in message)
    if isinstance(message, ContainerID) or not isinstance(message, Message):
        return message
    return msgspec.structs.replace(
        message,
        **{
            shape.attribute: with_ids(getattr(message, shape.attribute), ids, random)
            for shape in shapes(type(message))
        },
    )


def types_of(kind: type[Message]) -> list[str]:
    """Return the names of the calls of an API."""
    [shape] = [shape for shape in shapes(kind) if shape.name == "type"]
    assert isinstance(shape.of, Enum)
    return list(shape.of.numbers)


def any_call(kind: type[Message], name: str, random: Random) -> Message:
    """Return a call of a type with the message of its name, and rarely without."""
    call = any_message(kind, random)
    changes: dict[str, Any] = {"type": name}
    for shape in shapes(kind):
        if shape.name == name.lower() and not isinstance(shape.of, str | Enum):
            changes[shape.attribute] = any_message(shape.of, random)
    return msgspec.structs.replace(call, **changes)


async def tell(client: Client, path: str, raw: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Post a call; return the answer, of a stream only that it began."""
    async with (
        asyncio.timeout(DEADLINE),
        client.session.post(f"{client.url}{path}", data=raw, headers=headers) as response,
    ):
        is_stream = "chunked" in response.headers.get("Transfer-Encoding", "")
        return response.status, "" if is_stream else (await response.read()).decode("latin1")


@pytest.mark.parametrize(
    ("kind", "path"), [(OperatorCall, "/api/v1"), (SchedulerCall, "/api/v1/scheduler")]
)
async def test_calls_of_any_content_are_answered_in_words(
    tmp_path: Path, kind: type[Message], path: str
) -> None:
    async with Master(tmp_path, MemoryStore()) as client:
        agent = FakeAgent(client, address="198.18.0.2")
        await agent.subscribe()
        framework = FakeFramework(client)
        await framework.subscribe()
        offer = (await framework.next("OFFERS"))["offers"][0]
        ids: dict[type[Message], str] = {
            AgentID: str(agent.id),
            FrameworkID: framework.info["id"]["value"],
            OfferID: offer["id"]["value"],
            TaskID: "t",
        }
        for name in types_of(kind):
            for seed in range(SEEDS // len(types_of(kind)) + 3):
                random = Random(f"{name}{seed}")
                call = with_ids(any_call(kind, name, random), ids, random)
                media = random.choice(list(Media))
                headers = {"Content-Type": media.value, "Accept": media.value}
                if name != "SUBSCRIBE":
                    headers["Mesos-Stream-Id"] = framework.stream_id
                status, words = await tell(client, path, encode_as(media, call), headers)
                assert status != 500, encode(call)[:2000]
                assert words or status in (200, 202, 404), (status, name)
        status, _ = await tell(
            client, "/api/v1", b'{"type":"GET_STATE"}', {"Content-Type": "application/json"}
        )
        assert status == 200
