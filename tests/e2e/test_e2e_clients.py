"""Marathon's own clients, as they come from their registry, drive a real cluster."""

from __future__ import annotations

import collections
import collections.abc
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from phalanx.labs.demo.proof import until

if TYPE_CHECKING:
    from phalanx.labs.demo.cluster import Cluster

# The client is of the time before Python 3.10.
collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]  # it was there then
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method")

# By name, for a folder of ours has it too; the installed package is what is found.
marathon: Any = importlib.import_module("marathon")
models: Any = importlib.import_module("marathon.models")

SECONDS = 60.0
SLEEP = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    """Yield the client on an empty Marathon, and leave it empty."""
    found = marathon.MarathonClient(cluster.lab.marathon_url, timeout=SECONDS)
    yield found
    found.delete_group("/", force=True)
    settled(found)


def hold(condition: Callable[[], Any], what: str) -> None:
    """Wait until *condition* is true."""
    until(lambda: "yes" if condition() else None, seconds=SECONDS, what=what)


def settled(client: Any) -> None:
    """Wait until no deployment runs."""
    hold(lambda: not client.list_deployments(), "deployments are over")


def app(**more: Any) -> Any:
    small = {"cmd": SLEEP, "cpus": 0.1, "mem": 16, "instances": 1}
    return models.MarathonApp(**{**small, **more})


def check() -> Any:
    return models.MarathonHealthCheck(
        protocol="COMMAND", command={"value": "true"}, interval_seconds=1, delay_seconds=0
    )


def created(client: Any, app_id: str, **more: Any) -> Any:
    made = client.create_app(app_id, app(**more))
    settled(client)
    return made


def test_an_app_lives_its_life(client: Any) -> None:
    made = created(client, "/web", labels={"tier": "front"})
    got = client.get_app("/web", embed_task_stats=True)
    listed = client.list_apps(label="tier==front", embed_tasks=True, embed_counts=True)
    endpoints = client.list_endpoints()
    scaled = client.scale_app("/web", instances=2)
    settled(client)
    tasks = client.list_tasks("web")
    restarted = client.restart_app("/web")
    settled(client)
    after = client.list_tasks("/web")
    versions = client.list_versions("/web")
    former = client.get_version("/web", versions[-1])
    deleted = client.delete_app("/web")
    settled(client)

    assert (made.id, made.instances, made.labels) == ("/web", 1, {"tier": "front"})
    assert (got.tasks_running, len(got.tasks)) == (1, 1)
    assert got.task_stats is not None
    assert [found.id for found in listed] == ["/web"]
    assert [endpoint.app_id for endpoint in endpoints] == ["/web"]
    assert {"deploymentId", "version"} <= set(scaled) & set(restarted) & set(deleted)
    assert len(tasks) == 2
    assert not {task.id for task in tasks} & {task.id for task in after}
    assert len(versions) == 3
    assert former.instances == 1
    with pytest.raises(marathon.exceptions.NotFoundError):
        client.get_app("/web")


def test_what_was_read_is_changed_and_sent_back(client: Any) -> None:
    created(
        client,
        "/web",
        env={"A": "1"},
        constraints=[models.MarathonConstraint("hostname", "LIKE", ".*")],
        health_checks=[check()],
        upgrade_strategy=models.app.MarathonUpgradeStrategy(
            minimum_health_capacity=0, maximum_over_capacity=0.5
        ),
    )
    found = client.get_app("/web")
    found.env = {"A": "2"}
    first = client.list_versions("/web")[-1]

    client.update_app("/web", found)
    settled(client)
    updated = client.get_app("/web")
    client.rollback_app("/web", first)
    settled(client)

    assert updated.env == {"A": "2"}
    assert [check.protocol for check in updated.health_checks] == ["COMMAND"]
    assert client.get_app("/web").env == {"A": "1"}
    assert client.get_app("/web").tasks_healthy == 1


def test_tasks_are_killed_and_replaced_or_not(client: Any) -> None:
    created(client, "/web", instances=3)
    first, second, third = sorted(task.id for task in client.list_tasks("/web"))

    client.kill_task("/web", first)
    hold(lambda: _ids(client) and first not in _ids(client), "it is gone")
    hold(lambda: len(_ids(client)) == 3, "it is replaced")
    client.kill_given_tasks([second], scale=True, force=True)
    settled(client)
    left = _ids(client)
    client.kill_tasks("/web")
    hold(lambda: third not in _ids(client), "all were killed")

    assert second not in left
    assert len(left) == 2
    assert client.get_app("/web").instances == 2


def _ids(client: Any) -> set[str]:
    return {task.id for task in client.list_tasks("/web") if task.state == "TASK_RUNNING"}


def test_groups_come_and_go_whole(client: Any) -> None:
    one, two = app(id="one"), app(id="two", dependencies=["/g/one"])
    client.create_group(models.MarathonGroup(id="/g", apps=[one, two]))
    settled(client)
    group = client.get_group("/g")
    version = group.version
    client.scale_group("/g", 2)
    settled(client)
    scaled = client.get_group("/g")
    client.rollback_group("/g", version)
    settled(client)

    assert [found.id for found in group.apps] == ["/g/one", "/g/two"]
    assert [found.instances for found in scaled.apps] == [2, 2]
    assert [found.instances for found in client.get_group("/g").apps] == [1, 1]
    assert [found.id for found in client.list_groups()] == ["/g"]
    with pytest.raises(marathon.exceptions.MarathonHttpError):
        client.create_group(models.MarathonGroup(id="/g"))
    client.delete_group("/g")
    settled(client)
    with pytest.raises(marathon.exceptions.NotFoundError):
        client.get_group("/g")


def test_what_waits_says_why_and_gives_way(client: Any) -> None:
    client.create_app("/greedy", app(cpus=900))
    hold(_has_refused(client), "offers were refused")
    [item] = client.list_queue(embed_last_unused_offers=True)
    client.reset_delay("/greedy")
    [deployment] = client.list_deployments()
    with pytest.raises(marathon.exceptions.ConflictError):
        client.update_app("/greedy", app(cpus=1))
    client.delete_deployment(deployment.id)
    settled(client)

    assert (item.app.id, item.count) == ("/greedy", 1)
    reasons = item.processed_offers_summary["rejectSummaryLastOffers"]
    assert {r["reason"] for r in reasons if r["declined"]} == {"InsufficientCpus"}
    assert deployment.affected_apps == ["/greedy"]
    with pytest.raises(marathon.exceptions.NotFoundError):
        client.get_app("/greedy")


def _has_refused(client: Any) -> Callable[[], bool]:
    def look() -> bool:
        queue = client.list_queue(embed_last_unused_offers=True)
        return bool(queue and queue[0].last_unused_offers)

    return look


def test_a_bad_definition_is_told_in_words(client: Any) -> None:
    with pytest.raises(marathon.exceptions.MarathonHttpError) as caught:
        client.create_app("/bad", app(cpus=-1))

    assert caught.value.status_code == 422
    assert caught.value.error_details[0]["path"] == "/cpus"


def test_the_server_says_who_it_is(client: Any) -> None:
    info = client.get_info()

    assert (info.name, info.elected) == ("marathon", True)
    assert info.marathon_config.local_port_min == 10000
    assert client.get_leader() == {"leader": info.leader}
    assert client.ping() == b'"pong"'  # it asks for JSON
    assert client.get_metrics()["version"] == "4.0.0"


def test_every_event_of_a_deployment_is_understood(client: Any) -> None:
    with events(client) as seen:
        created(client, "/web", health_checks=[check()])
        client.update_app("/web", app(cmd=f": new; {SLEEP}"))
        settled(client)
        client.delete_app("/web")
        settled(client)
        hold(lambda: "app_terminated_event" in _kinds(seen), "the end is told")

    wanted = {
        "event_stream_attached",
        "api_post_event",
        "group_change_success",
        "deployment_info",
        "deployment_step_success",
        "deployment_success",
        "status_update_event",
        "instance_changed_event",
        "app_terminated_event",
    }
    assert wanted <= _kinds(seen)
    assert not [event for event in seen if isinstance(event, Exception)]
    [first] = [e for e in seen if e.event_type == "deployment_success"][:1]
    assert first.id


def _kinds(seen: list[Any]) -> set[str]:
    return {getattr(event, "event_type", "failed") for event in seen}


@contextmanager
def events(client: Any) -> Iterator[list[Any]]:
    """Collect events, or what the client raised over one, while the context lasts."""
    seen: list[Any] = []

    def listen() -> None:
        try:
            for event in client.event_stream():
                seen.append(event)
        except marathon.exceptions.MarathonError as error:
            seen.append(error)
        except (OSError, ValueError):
            return  # the server is gone

    threading.Thread(target=listen, daemon=True).start()
    hold(lambda: seen, "the stream has begun")
    yield seen
