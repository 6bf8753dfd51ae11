"""Answer a batch of offers: launch what fits, and decline the rest."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import msgspec
import structlog

from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.tally import Tally
from phalanx.marathon.model.instance import Condition, Instance, Launched, Member, Reservation
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.backoff import after_launch
from phalanx.marathon.schedule.constraint import REGION, ZONE
from phalanx.marathon.schedule.match import Matching, Placement, matching
from phalanx.marathon.schedule.residency import Circumstances, freeing, holds, is_ours, is_part
from phalanx.marathon.schedule.stock import Stock
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    Filters,
    Launch,
    LaunchGroup,
    Offer,
    Operation,
    TaskGroupInfo,
)
from phalanx.mesos.v1.scheduler import Accept, Call, Decline

log = structlog.get_logger()

UNNEEDED_SECONDS = 120.0  # a REVIVE ends this early
LACKING_SECONDS = 5.0
LEAST_SHARE = 50  # launches of one app for one batch of offers
MOST_AT_ONCE = 1000  # launches for one batch of offers: meanwhile nobody is answered
RESERVATION_SECONDS = 20.0  # within which a reservation must show in an offer


async def answer(board: Board, offers: Sequence[Offer]) -> list[Call]:
    """Return the calls that answer *offers*; launches are stored before.

    Call with the board's lock held.
    """
    now = board.clock()
    await _give_up(board, offers, now)
    # Before anything is reserved anew for an instance whose reservation was given up.
    litter = {offer.id.value: _litter(board, offer) for offer in offers}
    launchable = board.launchable(now)
    waiting = _share(board, launchable, now)
    placed = board.placed({spec.id for spec, _ in waiting})
    framework_id = board.ledger.framework_id or ""
    groups = board.ledger.root.groups.values()
    enforcing = frozenset(group.id.strip("/") for group in groups if group.enforce_role)
    circumstances = Circumstances(now, board.region, framework_id, board.identity, enforcing)
    matched = matching(offers, waiting, placed, board.rng, circumstances)
    _count(board, matched, now)
    refusal = LACKING_SECONDS if matched.unplaced else UNNEEDED_SECONDS
    if len(waiting) < sum(len(found) for _, found in launchable) and matched.placements:
        refusal = 0.0  # the others want the next offers at once
    filters = Filters(refuse_seconds=refusal)
    by_offer: dict[str, list[Placement]] = {}
    for placement in matched.placements:
        by_offer.setdefault(placement.offer.id.value, []).append(placement)
    await board.ledger.put_instances([_provisioned(board, p, now) for p in matched.placements])
    calls = []
    for offer in offers:
        placements = by_offer.get(offer.id.value, [])
        freed = [operation for found in litter[offer.id.value].values() for operation in found]
        if not placements and not freed:
            continue
        for owner in litter[offer.id.value]:
            board.litter.pop(owner, None)
            log.info("reservation_freed", instance=owner, agent=offer.hostname)
        # What was just reserved, or freed, is to come back at once.
        is_soon = bool(freed) or any(placement.keep for placement in placements)
        accept = Accept(
            offer_ids=(offer.id,),
            operations=(*freed, *_operations(placements)),
            filters=Filters(refuse_seconds=0.0) if is_soon else filters,
        )
        calls.append(Call(type="ACCEPT", accept=accept))
    declined = tuple(
        offer.id
        for offer in offers
        if offer.id.value not in by_offer and not litter[offer.id.value]
    )
    if declined:
        decline = Decline(offer_ids=declined, filters=filters)
        calls.append(Call(type="DECLINE", decline=decline))
    return calls


def _operations(placements: Sequence[Placement]) -> Iterator[Operation]:
    """Yield one launch for all apps, and one for each pod."""
    for placement in placements:
        yield from placement.keep
    single = tuple(p.task for p in placements if p.executor is None and p.tasks)
    if single:
        yield Operation(type="LAUNCH", launch=Launch(task_infos=single))
    for placement in placements:
        if placement.executor is not None:
            group = TaskGroupInfo(tasks=placement.tasks)
            launch = LaunchGroup(executor=placement.executor, task_group=group)
            yield Operation(type="LAUNCH_GROUP", launch_group=launch)


def _share(
    board: Board, launchable: Sequence[tuple[Spec, Collection[Instance]]], now: float
) -> list[tuple[Spec, Instance]]:
    """Return as many as one batch may launch: of those first that had no share for longest."""
    board.batch += 1
    each = max(LEAST_SHARE, MOST_AT_ONCE // max(1, len(launchable)))
    tallies = [board.tallies.setdefault(spec.id, Tally(now)) for spec, _ in launchable]
    share: list[tuple[Spec, Instance]] = []
    for index in sorted(range(len(launchable)), key=lambda index: tallies[index].turn):
        if len(share) >= MOST_AT_ONCE:
            break
        spec, instances = launchable[index]
        tallies[index].turn = board.batch
        share += [(spec, instance) for instance in islice(instances, each)]
    return share


async def _give_up(board: Board, offers: Sequence[Offer], now: float) -> None:
    """Forget reservations that the master did not make, so that they are tried anew."""
    seen: dict[str, dict[str, Resources]] = {}  # by agent and instance
    for offer in offers:
        found = seen.setdefault(offer.agent_id.value, {})
        for owner, part in Stock(offer).kept.items():
            found[owner] = found.get(owner, Resources()) + part
    resident = [found for spec, found in board.waiting() if spec.is_resident]
    for instance in [instance for found in resident for instance in found]:
        reservation = instance.reservation
        if reservation is None or reservation.is_made:
            continue
        kept = seen.get(reservation.agent_id)
        is_late = now - reservation.since >= RESERVATION_SECONDS
        if is_late and kept is not None and not _is_made(kept.get(instance.id), reservation):
            await board.ledger.put_instance(msgspec.structs.replace(instance, reservation=None))


def _is_made(kept: Resources | None, reservation: Reservation) -> bool:
    """Tell whether the master reserved for an instance, and created all of its volumes."""
    return kept is not None and holds(kept, reservation, {})


def _litter(board: Board, offer: Offer) -> Mapping[str, tuple[Operation, ...]]:
    """Return what frees reservations of ours whose instances are no more, or are elsewhere.

    By the id of the instance.
    """
    litter = {}
    for owner, kept in Stock(offer).kept.items():
        instance = board.ledger.instance(owner)
        reservation = None if instance is None else instance.reservation
        if reservation is not None and is_part(kept, reservation, offer.agent_id.value):
            continue
        if not is_ours(kept, board.ledger.framework_id or ""):
            continue
        role = offer.allocation_info.role if offer.allocation_info is not None else None
        litter[owner] = freeing(kept, role or "*")
    return litter


def _provisioned(board: Board, placement: Placement, now: float) -> Instance:
    offer, app_id = placement.offer, placement.instance.app_id
    if placement.keep:
        log.info("resources_reserved", instance=placement.instance.id, agent=offer.hostname)
        return msgspec.structs.replace(placement.instance, reservation=placement.reservation)
    log.info("task_launched", task=placement.instance.task_id, agent=offer.hostname)
    spec = board.ledger.specs[app_id]
    names = [container.name for container in spec.containers] if isinstance(spec, Pod) else []
    if app_id in board.backoffs:
        board.backoffs[app_id] = after_launch(board.backoffs[app_id], now)
    address = None if offer.url is None else offer.url.address.ip
    return msgspec.structs.replace(
        placement.instance,
        version=spec.version,
        condition=Condition.PROVISIONED,
        reservation=placement.reservation,
        since=now,
        launched=Launched(
            agent_id=offer.agent_id.value,
            hostname=offer.hostname,
            agent_ip=address or offer.hostname,
            host_ports=placement.ports.taken,
            ports=placement.ports.told,
            staged_at=now,
            attributes=dict(placement.attributes),
            role=spec.role,
            region=placement.attributes.get(REGION),
            zone=placement.attributes.get(ZONE),
            endpoint_ports=placement.ports.host if names else (),
            members=tuple(Member(name=name, since=now) for name in names),
        ),
    )


def _count(board: Board, matched: Matching, now: float) -> None:
    for placement in matched.placements:
        board.tallies[placement.instance.app_id].used(now)
    for rejection in matched.rejections:
        board.tallies[rejection.app_id].refused(rejection, now)
