"""Operations on resources: pure ledgers, real files, and updates until they are acknowledged."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from phalanx.agent.drain import Drainage, drain_kill
from phalanx.agent.files import CheckpointError
from phalanx.agent.layout import Layout
from phalanx.agent.operation.ledger import Ledger, Page, recovered
from phalanx.agent.operation.operations import Operations, read_ledger
from phalanx.agent.registration import changes, forget_id, keep_id, kept_id, recover_info
from phalanx.core.error import ConfigError, InvalidError, UnavailableError
from phalanx.mesos.agent_protocol import AcknowledgeOperation, ApplyOperation, OperationUpdate
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import decode, encode, from_json
from phalanx.mesos.v1.mesos import (
    AgentID,
    AgentInfo,
    DomainInfo,
    DrainConfig,
    DurationInfo,
    Operation,
)

BASE = Resources.parse("cpus:4;mem:1024;disk:1000")
AGENT = AgentID(value="S0")


def reserved(name: str, amount: float, role: str = "web", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "SCALAR",
        "scalar": {"value": amount},
        "reservations": [{"type": "DYNAMIC", "role": role}],
        **more,
    }


def volume(id: str = "v1", amount: float = 100.0) -> dict[str, Any]:
    disk = {"persistence": {"id": id}, "volume": {"container_path": "d", "mode": "RW"}}
    return reserved("disk", amount, disk=disk)


def order(number: int, operation: dict[str, Any], *, id: str | None = None) -> ApplyOperation:
    named = {"id": {"value": id}} if id is not None else {}
    return ApplyOperation(
        operation_uuid=bytes([number]) * 16, operation=from_json(Operation, operation | named)
    )


RESERVE = {"type": "RESERVE", "reserve": {"resources": [reserved("disk", 200.0)]}}
CREATE = {"type": "CREATE", "create": {"volumes": [volume()]}}
DESTROY = {"type": "DESTROY", "destroy": {"volumes": [volume()]}}


def test_operations_make_of_the_resources_what_they_say() -> None:
    ledger = Ledger(BASE, BASE)
    for number, operation in enumerate((RESERVE, CREATE)):
        ledger, record = ledger.applied(
            order(number, operation), agent_id=AGENT, status_uuid=bytes(16)
        )
        assert record.latest_status.state == "OPERATION_FINISHED"
        assert record.latest_status.uuid is None

    assert ledger.total.unreserved.scalar("disk") == 800.0
    assert ledger.total.volumes.scalar("disk") == 100.0
    assert ledger.total.scalar("disk") == 1000.0
    assert ledger.operations == ()


def test_an_operation_without_its_resources_fails_and_changes_nothing() -> None:
    ledger, record = Ledger(BASE, BASE).applied(
        order(1, CREATE, id="o1"), agent_id=AGENT, status_uuid=b"s" * 16
    )

    assert record.latest_status.state == "OPERATION_FAILED"
    assert "does not contain" in (record.latest_status.message or "")
    assert ledger.total == BASE
    assert ledger.operations == (record,)


def test_a_named_operation_is_kept_until_its_status_is_acknowledged() -> None:
    ledger, record = Ledger(BASE, BASE).applied(
        order(1, RESERVE, id="o1"), agent_id=AGENT, status_uuid=b"s" * 16
    )

    assert ledger.operations == (record,)
    assert ledger.acknowledged(b"\1" * 16, b"x" * 16) is ledger
    assert ledger.acknowledged(b"\1" * 16, b"s" * 16).operations == ()


def test_a_ledger_is_recovered_on_more_resources_and_not_on_too_few() -> None:
    ledger, _ = Ledger(BASE, BASE).applied(order(1, RESERVE), agent_id=AGENT, status_uuid=b"")
    page = decode(Page, encode(ledger.page()))

    more = recovered(page, Resources.parse("cpus:8;mem:1024;disk:2000"))
    assert more.total.unreserved.scalar("disk") == 1800.0
    assert more.total.reserved.scalar("disk") == 200.0
    assert recovered(page, BASE).total == ledger.total
    assert recovered(None, BASE) == Ledger(BASE, BASE)
    with pytest.raises(InvalidError, match="lack"):
        recovered(page, Resources.parse("cpus:8;disk:100"))


class Sent:
    """The master's end: what it is told, or that it is not there."""

    def __init__(self) -> None:
        self.updates: list[OperationUpdate] = []
        self.heard = asyncio.Event()
        self.is_there = True

    async def __call__(self, update: OperationUpdate) -> None:
        if not self.is_there:
            raise UnavailableError("no master")
        self.updates.append(update)
        self.heard.set()

    async def next(self) -> OperationUpdate:
        async with asyncio.timeout(30.0):
            await self.heard.wait()
        self.heard.clear()
        return self.updates[-1]


def made(tmp_path: Path, sent: Sent) -> Operations:
    file = tmp_path / "meta" / "resources" / "state"
    ledger = read_ledger(file, BASE, is_strict=True)
    numbers = iter(range(1, 100))
    return Operations(
        ledger,
        file=file,
        work=tmp_path,
        send=sent,
        new_uuid=lambda: bytes([next(numbers)]) * 16,
    )


async def test_volumes_are_made_and_removed_and_survive_the_agent(tmp_path: Path) -> None:
    sent = Sent()
    operations = made(tmp_path, sent)
    operations.resume()
    for number, operation in enumerate((RESERVE, CREATE)):
        await operations.apply(order(number, operation), AGENT)
        assert (await sent.next()).status.state == "OPERATION_FINISHED"
    place = tmp_path / "volumes" / "roles" / "web" / "v1"
    (place / "kept").write_text("data")
    await operations.close()

    again = made(tmp_path, sent)
    assert again.ledger.total == operations.ledger.total
    assert (place / "kept").read_text() == "data"
    again.resume()
    await again.apply(order(9, DESTROY), AGENT)
    assert (await sent.next()).status.state == "OPERATION_FINISHED"
    assert not place.exists()
    assert again.ledger.total.reserved.scalar("disk") == 200.0
    await again.close()


async def test_a_named_operation_is_told_again_until_it_is_acknowledged(tmp_path: Path) -> None:
    sent = Sent()
    operations = made(tmp_path, sent)
    operations.resume()
    await operations.apply(order(1, RESERVE, id="o1"), AGENT)
    first = await sent.next()
    operations.pause()
    await operations.close()

    again = made(tmp_path, sent)
    assert [item.info.id for item in again.ledger.operations] == [first.status.operation_id]
    again.resume()
    second = await sent.next()
    assert second.status.uuid == first.status.uuid
    assert first.status.uuid is not None
    await again.acknowledge(
        AcknowledgeOperation(operation_uuid=b"\1" * 16, status_uuid=first.status.uuid.value)
    )
    assert made(tmp_path, sent).ledger.operations == ()
    await again.close()


async def test_an_order_that_comes_twice_is_carried_out_once(tmp_path: Path) -> None:
    sent = Sent()
    operations = made(tmp_path, sent)
    operations.resume()
    for _ in range(2):
        await operations.apply(order(1, RESERVE, id="o1"), AGENT)
        await sent.next()

    assert operations.ledger.total.reserved.scalar("disk") == 200.0
    await operations.close()


async def test_what_the_disk_refuses_fails_and_is_told(tmp_path: Path) -> None:
    sent = Sent()
    operations = made(tmp_path, sent)
    operations.resume()
    await operations.apply(order(1, RESERVE), AGENT)
    await sent.next()
    (tmp_path / "volumes").write_text("in the way")
    await operations.apply(order(2, CREATE, id="o2"), AGENT)

    assert (await sent.next()).status.state == "OPERATION_FAILED"
    assert not operations.ledger.total.volumes
    await operations.close()


async def test_an_operation_that_can_not_be_written_is_not_told(tmp_path: Path) -> None:
    sent = Sent()
    operations = made(tmp_path, sent)
    operations.resume()
    (tmp_path / "meta").write_text("in the way")

    with pytest.raises(CheckpointError):
        await operations.apply(order(1, RESERVE), AGENT)
    assert sent.updates == []
    await operations.close()


def test_a_torn_ledger_ends_a_strict_agent(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("{")

    with pytest.raises(ConfigError, match="--strict"):
        read_ledger(file, BASE, is_strict=True)
    assert read_ledger(file, BASE, is_strict=False).total == BASE


def info(**more: Any) -> AgentInfo:
    form = {"hostname": "h", "resources": "cpus:1;mem:64", "attributes": [], **more}
    resources = Resources.parse(form.pop("resources")).messages()
    return AgentInfo(id=AGENT, resources=resources, **form)


@pytest.mark.parametrize(
    ("after", "policy", "words"),
    [
        pytest.param(info(), "equal", "", id="the-same"),
        pytest.param(info(hostname="x"), "additive", "hostname", id="hostname"),
        pytest.param(info(resources="cpus:2;mem:64"), "equal", "resources", id="more-resources"),
        pytest.param(info(resources="cpus:2;mem:64"), "additive", "", id="more-is-additive"),
        pytest.param(info(resources="cpus:1"), "additive", "resources", id="fewer-resources"),
        pytest.param(info(domain=DomainInfo()), "equal", "domain", id="domain"),
        pytest.param(info(domain=DomainInfo()), "additive", "", id="domain-is-additive"),
    ],
)
def test_a_policy_says_what_may_change(after: AgentInfo, policy: str, words: str) -> None:
    found = changes(info(), after, policy)

    assert bool(found) == bool(words)
    assert words in " ".join(found)


def test_a_changed_agent_is_refused_or_after_a_reboot_a_new_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "w", tmp_path / "r")
    after = info(hostname="x")
    keep_id(layout, info())
    before = recover_info(layout, is_strict=True)

    with pytest.raises(ConfigError, match=r"Incompatible agent info detected: hostname") as e:
        kept_id(before, after, layout=layout, policy="equal", is_rebooted=False)
    assert f"rm -f {layout.latest}" in str(e.value)
    assert kept_id(before, after, layout=layout, policy="equal", is_rebooted=True) is None
    assert kept_id(before, info(), layout=layout, policy="equal", is_rebooted=False) == AGENT
    forget_id(layout)
    assert recover_info(layout, is_strict=True) is None


def test_a_drain_outlives_the_agent(tmp_path: Path) -> None:
    config = DrainConfig(max_grace_period=DurationInfo(nanoseconds=1), mark_gone=True)
    drainage = Drainage(tmp_path / "drain")
    drainage.begin(config, at=5.0)
    drainage.begin(config, at=6.0)

    later = Drainage(tmp_path / "drain")
    later.recover()
    assert later.now is not None
    assert (later.now.config, later.now.started) == (config, 5.0)
    later.end()
    later.recover()
    assert later.now is None


@pytest.mark.parametrize(
    ("most", "asked", "grace"), [(None, 5.0, 5.0), (2.0, 5.0, 2.0), (9.0, 5.0, 5.0)]
)
def test_a_drain_shortens_the_grace(most: float | None, asked: float, grace: float) -> None:
    period = DurationInfo(nanoseconds=int(most * 1e9)) if most is not None else None

    kill = drain_kill(DrainConfig(max_grace_period=period), asked)

    assert kill.grace_seconds == grace
    assert kill.reason == "REASON_AGENT_DRAINING"
