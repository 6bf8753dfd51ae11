"""Answer a batch of offers: launch what fits, and decline the rest."""

from collections.abc import Sequence

import msgspec
import structlog

from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.tally import Tally
from phalanx.marathon.model.instance import Condition, Instance, Launched
from phalanx.marathon.schedule.backoff import after_launch
from phalanx.marathon.schedule.match import Matching, Placement, matching
from phalanx.mesos.v1.mesos import Filters, Launch, Offer, Operation
from phalanx.mesos.v1.scheduler import Accept, Call, Decline

log = structlog.get_logger()

UNNEEDED_SECONDS = 120.0  # a REVIVE ends this early
LACKING_SECONDS = 5.0


async def answer(board: Board, offers: Sequence[Offer]) -> list[Call]:
    """Return the calls that answer *offers*; launches are stored before.

    Call with the board's lock held.
    """
    now = board.clock()
    waiting = board.launchable(now)
    matched = matching(offers, waiting, board.placed(), board.rng)
    _count(board, matched, [app.id for app, _ in waiting], now)
    filters = Filters(refuse_seconds=LACKING_SECONDS if matched.unplaced else UNNEEDED_SECONDS)
    by_offer: dict[str, list[Placement]] = {}
    for placement in matched.placements:
        by_offer.setdefault(placement.offer.id.value, []).append(placement)
        await board.ledger.put_instance(_provisioned(board, placement, now))
    calls = []
    for placements in by_offer.values():
        launch = Launch(task_infos=tuple(placement.task for placement in placements))
        accept = Accept(
            offer_ids=(placements[0].offer.id,),
            operations=(Operation(type="LAUNCH", launch=launch),),
            filters=filters,
        )
        calls.append(Call(type="ACCEPT", accept=accept))
    declined = tuple(offer.id for offer in offers if offer.id.value not in by_offer)
    if declined:
        decline = Decline(offer_ids=declined, filters=filters)
        calls.append(Call(type="DECLINE", decline=decline))
    return calls


def _provisioned(board: Board, placement: Placement, now: float) -> Instance:
    offer, app_id = placement.offer, placement.instance.app_id
    log.info("task_launched", task=placement.instance.task_id, agent=offer.hostname)
    if app_id in board.backoffs:
        board.backoffs[app_id] = after_launch(board.backoffs[app_id], now)
    address = None if offer.url is None else offer.url.address.ip
    return msgspec.structs.replace(
        placement.instance,
        version=board.ledger.apps[app_id].version,
        condition=Condition.PROVISIONED,
        since=now,
        launched=Launched(
            agent_id=offer.agent_id.value,
            hostname=offer.hostname,
            agent_ip=address or offer.hostname,
            host_ports=placement.ports.taken,
            ports=placement.ports.told,
            staged_at=now,
            attributes=dict(placement.attributes),
        ),
    )


def _count(board: Board, matched: Matching, waiting: Sequence[str], now: float) -> None:
    for app_id in waiting:
        board.tallies.setdefault(app_id, Tally(now))
    for placement in matched.placements:
        board.tallies[placement.instance.app_id].used(now)
    for rejection in matched.rejections:
        board.tallies[rejection.app_id].refused(rejection, now)
