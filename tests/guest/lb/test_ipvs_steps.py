"""Whichever step of a change fails, the next passes bring all to what it should be."""

from collections.abc import Iterator
from itertools import count

import pytest
from tests.guest.lb.ipvs_lab import DNS, OWN, WEB, Lab, say, service, wait
from tests.netns.lb.failing import FailingNft

from phalanx.core.reconcile.delta import delta
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.service import Service, Vip

Table = dict[Vip, Service]

BEFORE: Table = {WEB: service(b1=1), DNS: service(b1=1)}
AFTER: Table = {WEB: service(b1=1, b2=1), DNS: service(b1=0), OWN: service(b2=1)}


@pytest.fixture
def library(lab: Lab) -> Iterator[FailingNft]:
    library = FailingNft(netns=lab.path("node"))
    yield library
    library.close()


@pytest.mark.parametrize("is_heard", [False, True], ids=["unheard", "answer-lost"])
def test_any_step_may_fail(lab: Lab, library: FailingNft, is_heard: bool) -> None:
    library.is_heard = is_heard
    services = IpvsServices(library, flows=Flows(netns=lab.path("node")))
    wanted = BEFORE
    loop: IncrementalReconciler[Table, Vip, Service] = IncrementalReconciler(
        services,
        lambda: wanted,
        dict,
        lambda old, new: delta(new, old),
        is_known=services.is_known,
    )

    def passes(state: Table) -> bool:
        nonlocal wanted
        wanted = state
        return wait(loop.reconcile_once(resync=False))

    assert passes(dict(BEFORE))
    assert wait(services.read()) == BEFORE
    for step in count():
        assert passes(dict(BEFORE))
        with lab.connect("client", WEB) as opened:
            assert say(opened)[0] == "b1"

            library.left = step
            is_done = passes(dict(AFTER))
            has_failed, library.left = library.left is None, None

            assert is_done is not has_failed
            assert lab.ask("client", WEB)[0] in {"b1", "b2"}
            assert passes(dict(AFTER))
            assert wait(services.read()) == AFTER
            assert say(opened)[0] == "b1"
        if not has_failed:
            break
    services.close()
    # What is looked at, claimed, changed, set and refused.
    assert step >= 5
