"""``POST /api/v1``: the v1 operator API (reference mesos §3.1, §3.2)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import msgspec
from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.master.api.door import SEAT, leader_of
from phalanx.master.api.slices import answer_pieces, in_slices
from phalanx.master.leader import Leader
from phalanx.master.operator import v1
from phalanx.master.operator.events import HEARTBEAT, HEARTBEAT_SECONDS
from phalanx.master.operator.snapshot import Snapshot, snapshot_of
from phalanx.master.roles.quota import quota_status
from phalanx.master.roles.weight import weight_infos
from phalanx.master.seat import Seat
from phalanx.mesos.api.answer import answer
from phalanx.mesos.api.call import accepted, agree, read_call
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.build import build_info
from phalanx.mesos.v1.master import (
    Call,
    Event,
    GetMaintenanceScheduleAnswer,
    GetMaintenanceStatusAnswer,
    GetMasterAnswer,
    GetQuotaAnswer,
    GetWeightsAnswer,
    Response,
    Subscribed,
)
from phalanx.mesos.v1.media import Media
from phalanx.mesos.v1.mesos import (
    Create,
    Destroy,
    DurationInfo,
    GrowVolume,
    Operation,
    Reserve,
    ShrinkVolume,
    Unreserve,
)
from phalanx.mesos.v1.operator import (
    GetFlagsAnswer,
    GetHealthAnswer,
    GetLoggingLevelAnswer,
    GetMetricsAnswer,
    GetVersionAnswer,
    ListFilesAnswer,
    ReadFileAnswer,
)
from phalanx.mesos.v1.protobuf import encode_protobuf

# Calls that only read: the answer, but for its type.
Read = Callable[[Seat, Leader, Call], Response]
# Calls that change something: the status.
Change = Callable[[Leader, Call], Awaitable[int]]


def _flags(seat: Seat, _leader: Leader, _call: Call) -> Response:
    return Response(get_flags=GetFlagsAnswer(flags=v1.pairs_of_flags(seat.config.flags())))


def _metrics(seat: Seat, leader: Leader, _call: Call) -> Response:
    found = v1.pairs_of_metrics(leader.metrics(uptime=seat.uptime))
    return Response(get_metrics=GetMetricsAnswer(metrics=found))


def _weights(_seat: Seat, leader: Leader, _call: Call) -> Response:
    weights = leader.cluster.weights
    if not weights:
        return Response()
    return Response(get_weights=GetWeightsAnswer(weight_infos=weight_infos(weights)))


def _master(seat: Seat, leader: Leader, _call: Call) -> Response:
    return Response(
        get_master=GetMasterAnswer(
            master_info=leader.info, start_time=seat.started, elected_time=leader.elected
        )
    )


def _quota(_seat: Seat, leader: Leader, _call: Call) -> Response:
    return Response(get_quota=GetQuotaAnswer(status=quota_status(leader.cluster.quotas)))


def _schedule(_seat: Seat, leader: Leader, _call: Call) -> Response:
    found = GetMaintenanceScheduleAnswer(schedule=leader.cluster.schedule)
    return Response(get_maintenance_schedule=found)


def _status(_seat: Seat, leader: Leader, _call: Call) -> Response:
    found = GetMaintenanceStatusAnswer(status=leader.maintenance.status)
    return Response(get_maintenance_status=found)


def _list_files(seat: Seat, _leader: Leader, call: Call) -> Response:
    assert call.list_files is not None  # checked with every call
    infos = seat.files.browse(call.list_files.path)
    return Response(list_files=ListFilesAnswer(file_infos=infos))


def _read_file(seat: Seat, _leader: Leader, call: Call) -> Response:
    assert call.read_file is not None  # checked with every call
    size, data = seat.files.read(call.read_file.path, call.read_file.offset, call.read_file.length)
    return Response(read_file=ReadFileAnswer(size=size, data=data))


def _level(seat: Seat, _leader: Leader, _call: Call) -> Response:
    return Response(get_logging_level=GetLoggingLevelAnswer(level=seat.verbosity.level))


READS: Mapping[str, Read] = {
    "GET_HEALTH": lambda *_: Response(get_health=GetHealthAnswer(healthy=True)),
    "GET_FLAGS": _flags,
    "GET_VERSION": lambda *_: Response(get_version=GetVersionAnswer(version_info=build_info())),
    "GET_METRICS": _metrics,
    "GET_LOGGING_LEVEL": _level,
    "LIST_FILES": _list_files,
    "READ_FILE": _read_file,
    "GET_OPERATIONS": lambda _seat, leader, _call: Response(
        get_operations=v1.operations_answer(leader.cluster)
    ),
    "GET_ROLES": lambda _seat, leader, _call: Response(get_roles=v1.roles_answer(leader.cluster)),
    "GET_WEIGHTS": _weights,
    "GET_MASTER": _master,
    "GET_QUOTA": _quota,
    "GET_MAINTENANCE_SCHEDULE": _schedule,
    "GET_MAINTENANCE_STATUS": _status,
}


async def _update_weights(leader: Leader, call: Call) -> int:
    assert call.update_weights is not None  # as in all of these: checked with every call
    await leader.roles.set_weights(call.update_weights.weight_infos)
    return 200


async def _reserve(leader: Leader, call: Call) -> int:
    assert call.reserve_resources is not None
    asked = call.reserve_resources
    reserve = Reserve(source=asked.source, resources=asked.resources)
    leader.operations.apply(asked.agent_id.value, Operation(type="RESERVE", reserve=reserve))
    return 202


async def _unreserve(leader: Leader, call: Call) -> int:
    assert call.unreserve_resources is not None
    asked = call.unreserve_resources
    unreserve = Unreserve(resources=asked.resources)
    operation = Operation(type="UNRESERVE", unreserve=unreserve)
    leader.operations.apply(asked.agent_id.value, operation)
    return 202


async def _create(leader: Leader, call: Call) -> int:
    assert call.create_volumes is not None
    asked = call.create_volumes
    operation = Operation(type="CREATE", create=Create(volumes=asked.volumes))
    leader.operations.apply(asked.agent_id.value, operation)
    return 202


async def _destroy(leader: Leader, call: Call) -> int:
    assert call.destroy_volumes is not None
    asked = call.destroy_volumes
    operation = Operation(type="DESTROY", destroy=Destroy(volumes=asked.volumes))
    leader.operations.apply(asked.agent_id.value, operation)
    return 202


async def _grow(leader: Leader, call: Call) -> int:
    assert call.grow_volume is not None
    asked = call.grow_volume
    if asked.agent_id is None:
        raise _no_agent()
    grow = GrowVolume(volume=asked.volume, addition=asked.addition)
    operation = Operation(type="GROW_VOLUME", grow_volume=grow)
    leader.operations.apply(asked.agent_id.value, operation)
    return 202


async def _shrink(leader: Leader, call: Call) -> int:
    assert call.shrink_volume is not None
    asked = call.shrink_volume
    if asked.agent_id is None:
        raise _no_agent()
    shrink = ShrinkVolume(volume=asked.volume, subtract=asked.subtract)
    operation = Operation(type="SHRINK_VOLUME", shrink_volume=shrink)
    leader.operations.apply(asked.agent_id.value, operation)
    return 202


def _no_agent() -> InvalidError:
    return InvalidError(
        "Failed to validate master::Call: Expecting 'agent_id' to be present; only agent default"
        " resources are supported right now"
    )


async def _update_schedule(leader: Leader, call: Call) -> int:
    assert call.update_maintenance_schedule is not None
    await leader.maintenance.update(call.update_maintenance_schedule.schedule)
    return 200


async def _start_maintenance(leader: Leader, call: Call) -> int:
    assert call.start_maintenance is not None
    await leader.maintenance.start(call.start_maintenance.machines)
    return 200


async def _stop_maintenance(leader: Leader, call: Call) -> int:
    assert call.stop_maintenance is not None
    await leader.maintenance.stop(call.stop_maintenance.machines)
    return 200


async def _drain(leader: Leader, call: Call) -> int:
    assert call.drain_agent is not None
    asked = call.drain_agent
    grace = None
    if asked.max_grace_period is not None:
        seconds, nanos = asked.max_grace_period.seconds or 0, asked.max_grace_period.nanos or 0
        grace = DurationInfo(nanoseconds=seconds * 1_000_000_000 + nanos)
    with _unknown("Unknown agent"):
        await leader.orders.drain(asked.agent_id.value, grace, mark_gone=asked.mark_gone)
    return 200


async def _deactivate(leader: Leader, call: Call) -> int:
    assert call.deactivate_agent is not None
    with _unknown("Unknown agent"):
        await leader.orders.deactivate(call.deactivate_agent.agent_id.value)
    return 200


async def _reactivate(leader: Leader, call: Call) -> int:
    assert call.reactivate_agent is not None
    with _unknown("Agent is not deactivated"):
        await leader.orders.reactivate(call.reactivate_agent.agent_id.value)
    return 200


@contextmanager
def _unknown(words: str) -> Iterator[None]:
    """Answer 400 where an agent is not known, as Mesos does to these calls."""
    try:
        yield
    except NotFoundError as error:
        raise InvalidError(words) from error


async def _update_quota(leader: Leader, call: Call) -> int:
    assert call.update_quota is not None
    asked = call.update_quota
    await leader.roles.update_quota(asked.quota_configs, is_forced=asked.force or False)
    return 200


async def _set_quota(leader: Leader, call: Call) -> int:
    assert call.set_quota is not None
    await leader.roles.set_quota(call.set_quota.quota_request)
    return 200


async def _remove_quota(leader: Leader, call: Call) -> int:
    assert call.remove_quota is not None
    try:
        await leader.roles.remove_quota(call.remove_quota.role)
    except InvalidError as error:
        raise InvalidError(f"Failed to remove quota: {error}") from error
    return 200


async def _teardown(leader: Leader, call: Call) -> int:
    assert call.teardown is not None
    teardown(leader, call.teardown.framework_id.value)
    return 200


def teardown(leader: Leader, framework_id: str) -> None:
    """End a framework; raise InvalidError when there is none of that id."""
    framework = leader.cluster.frameworks.get(framework_id)
    if framework is None:
        raise InvalidError("No framework found with specified ID")
    leader.frameworks.remove(framework, "teardown by an operator")


async def _mark_agent_gone(leader: Leader, call: Call) -> int:
    assert call.mark_agent_gone is not None
    id = call.mark_agent_gone.agent_id.value
    record = leader.registry.records.get(id)
    if record is None:
        raise NotFoundError(f"Agent '{id}' not found")
    await leader.orders.mark_gone(id)
    await leader.free_nodes([record.node])
    return 200


CHANGES: Mapping[str, Change] = {
    "UPDATE_WEIGHTS": _update_weights,
    "RESERVE_RESOURCES": _reserve,
    "UNRESERVE_RESOURCES": _unreserve,
    "CREATE_VOLUMES": _create,
    "DESTROY_VOLUMES": _destroy,
    "GROW_VOLUME": _grow,
    "SHRINK_VOLUME": _shrink,
    "UPDATE_MAINTENANCE_SCHEDULE": _update_schedule,
    "START_MAINTENANCE": _start_maintenance,
    "STOP_MAINTENANCE": _stop_maintenance,
    "DRAIN_AGENT": _drain,
    "DEACTIVATE_AGENT": _deactivate,
    "REACTIVATE_AGENT": _reactivate,
    "UPDATE_QUOTA": _update_quota,
    "SET_QUOTA": _set_quota,
    "REMOVE_QUOTA": _remove_quota,
    "TEARDOWN": _teardown,
    "MARK_AGENT_GONE": _mark_agent_gone,
}

# Calls that carry a member of their name.
WITH_MEMBER = frozenset({*CHANGES, "GET_METRICS", "SET_LOGGING_LEVEL", "LIST_FILES", "READ_FILE"})


async def post_operator(request: web.Request) -> web.StreamResponse:
    """Answer one operator call."""
    seat, leader = request.app[SEAT], leader_of(request)
    call = await read_call(request, Call)
    kind = call.type
    if kind is None:
        raise _missing("type")
    if kind == "UNKNOWN":
        raise web.HTTPNotImplemented
    if kind in WITH_MEMBER and getattr(call, kind.lower()) is None:
        raise _missing(kind.lower())
    if kind == "SUBSCRIBE":
        return await _subscribe(request, leader)
    media = accepted(request)
    if kind in v1.LONG:
        taken = await leader.reads.snapshot(leader.cluster)
        pieces = (
            v1.long_json(kind, taken)
            if media is Media.JSON
            else map(encode_protobuf, v1.long_parts(kind, taken))
        )
        return await answer_pieces(request, pieces, leader.reads, media)
    if kind == "SET_LOGGING_LEVEL":
        assert call.set_logging_level is not None  # checked above
        wanted = call.set_logging_level
        seat.verbosity.set(wanted.level, wanted.duration.nanoseconds / 1e9)
        return web.Response()
    if kind in CHANGES:
        return web.Response(status=await CHANGES[kind](leader, call))
    return answer(msgspec.structs.replace(READS[kind](seat, leader, call), type=kind), media)


async def _subscribe(request: web.Request, leader: Leader) -> web.StreamResponse:
    terms = agree(request)
    stream = leader.watchers.subscribe(terms.accept, is_recordio=terms.is_streaming_answer)
    return await respond(
        request,
        stream,
        preamble=_first_record(leader, snapshot_of(leader.cluster), terms.accept),
        heartbeat=HEARTBEAT,
        every_seconds=HEARTBEAT_SECONDS,
        on_end=lambda: leader.watchers.leave(stream),
    )


async def _first_record(leader: Leader, taken: Snapshot, media: Media) -> AsyncIterator[bytes]:
    """Yield SUBSCRIBED as a record: its length must be known before its first byte."""
    leader.reads.touch()
    pieces = (
        v1.subscribed_json(taken, HEARTBEAT_SECONDS)
        if media is Media.JSON
        else (
            encode_protobuf(Event(type="SUBSCRIBED", subscribed=part))
            for part in chain(
                (Subscribed(get_state=state) for state in v1.state_parts(taken)),
                (Subscribed(heartbeat_interval_seconds=HEARTBEAT_SECONDS),),
            )
        )
    )
    chunks = [chunk async for chunk in in_slices(pieces, leader.reads)]
    head, *more = chunks  # what is short goes out as one piece, for clients that count on it
    yield b"%d\n%b" % (sum(map(len, chunks)), head)
    for chunk in more:
        yield chunk


def _missing(field: str) -> InvalidError:
    return InvalidError(f"Failed to validate master::Call: Expecting '{field}' to be present")
