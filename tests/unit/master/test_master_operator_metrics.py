"""Metrics have Mesos' names, from the first moment on."""

import re
from pathlib import Path
from random import Random

import pytest

from phalanx.core.store.memory import MemoryStore
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.leader import Leader
from phalanx.master.recovery import recover
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.scheduler import Subscribe

# Names that dashboards and exporters ask for (reference mesos §3.4).
NAMES = [
    "master/elected",
    "master/uptime_secs",
    "master/cpus_total",
    "master/cpus_used",
    "master/cpus_percent",
    "master/cpus_revocable_total",
    "master/mem_percent",
    "master/disk_used",
    "master/gpus_total",
    "master/slaves_active",
    "master/slaves_connected",
    "master/slaves_disconnected",
    "master/slaves_inactive",
    "master/slaves_unreachable",
    "master/frameworks_active",
    "master/frameworks_connected",
    "master/frameworks_disconnected",
    "master/frameworks_inactive",
    "master/outstanding_offers",
    "master/tasks_staging",
    "master/tasks_starting",
    "master/tasks_running",
    "master/tasks_killing",
    "master/tasks_finished",
    "master/tasks_failed",
    "master/tasks_killed",
    "master/tasks_error",
    "master/tasks_lost",
    "master/tasks_dropped",
    "master/tasks_gone",
    "master/tasks_gone_by_operator",
    "master/tasks_unreachable",
    "master/messages_kill_task",
    "master/messages_decline_offers",
    "master/messages_register_framework",
    "master/messages_reregister_slave",
    "master/valid_status_updates",
    "master/invalid_status_updates",
    "master/dropped_messages",
    "master/slave_registrations",
    "master/slave_reregistrations",
    "master/slave_removals",
    "master/slave_unreachable_scheduled",
    "master/slave_unreachable_canceled",
    "master/slave_unreachable_completed",
    "master/event_queue_messages",
    "master/event_queue_dispatches",
    "master/event_queue_http_requests",
    "master/operations/total",
    "master/operations/reserve/pending",
    "master/operator_event_stream_subscribers",
    "allocator/mesos/allocation_runs",
    "allocator/mesos/event_queue_dispatches",
    "allocator/mesos/resources/cpus/total",
    "allocator/mesos/resources/cpus/offered_or_allocated",
    "registrar/queued_operations",
    "registrar/log/recovered",
    "registrar/log/ensemble_size",
    "system/cpus_total",
    "system/load_1min",
    "system/load_5min",
    "system/load_15min",
    "system/mem_free_bytes",
    "system/mem_total_bytes",
]


@pytest.fixture
async def leader() -> Leader:
    config = MasterConfig(work_dir=Path("/nowhere"))
    info = master_info("m1", config.address, 5050, "m1")
    ids = iter(range(1000))
    return await recover(
        config, info, MemoryStore(), SystemClock(), new_id=lambda: f"s{next(ids)}", rng=Random(1)
    )


async def test_every_name_is_there_from_the_beginning(leader: Leader) -> None:
    found = leader.metrics(uptime=1.0)

    assert [name for name in NAMES if name not in found] == []
    assert all(isinstance(value, float) for value in found.values())


async def test_names_are_documented(leader: Leader) -> None:
    page = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text()
    groups = [re.compile(text) for text in re.findall(r"^\| `\^(.+?)\$` \|", page, re.MULTILINE)]

    undocumented = [
        name
        for name in leader.metrics(uptime=1.0)
        if not any(group.fullmatch(name) for group in groups)
    ]

    assert undocumented == []


async def test_calls_are_counted_in_all_and_by_framework(leader: Leader) -> None:
    framework, _ = leader.frameworks.subscribe(
        from_json(Subscribe, {"framework_info": {"user": "root", "name": "a/b"}})
    )
    assert framework is not None
    leader.counts.subscribed(framework.id, is_new=True)
    leader.counts.called(framework.id, "DECLINE")

    found = leader.metrics(uptime=1.0)

    prefix = f"master/frameworks/a%2Fb/{framework.id}"
    assert found["master/messages_register_framework"] == 1.0
    assert found["master/messages_decline_offers"] == 1.0
    assert found[f"{prefix}/calls"] == 2.0
    assert found[f"{prefix}/calls/decline"] == 1.0
    assert found[f"{prefix}/subscribed"] == 1.0

    leader.frameworks.remove(framework, "test")

    assert not any(name.startswith(prefix) for name in leader.metrics(uptime=1.0))
