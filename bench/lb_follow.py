"""One change of a backend, from the View to the kernel, as a plane's pass makes it."""

import asyncio
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median

import msgspec
from lb_table import BACKENDS, CHANGES

from phalanx.core.collector import calm_collector
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.lb.exec import Flows
from phalanx.lb.ledger import ServiceLedger, Services
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Service, Vip
from phalanx.net.model.objects import Framework, Network, Node, Task, TaskPhase, TaskPort, VipLease
from phalanx.net.model.view import View
from phalanx.net.nft.library import Nft
from phalanx.plane.tables import changed_services

NODES = 20


def cluster(size: int) -> View:
    """Return a View of *size* named VIPs of *BACKENDS* tasks each."""
    node, inside, vip = map(IPv4Address, ("198.18.0.1", "9.0.0.0", "11.1.0.0"))
    nodes = [Node(node + each, f"a{each}", agent_id=f"S{each}") for each in range(NODES)]
    leases = [VipLease(f"app{each}.marathon", vip + each) for each in range(size)]
    tasks = [
        Task(
            "f",
            f"app{app}.{number}",
            f"app{app}",
            f"S{number}",
            node + (app + number) % NODES,
            TaskPhase.RUNNING,
            addresses=(inside + app * BACKENDS + number,),
            networks=("dcos",),
            ports=(TaskPort(8080, labels=(("VIP_0", f"app{app}:80"),)),),
        )
        for app in range(size)
        for number in range(BACKENDS)
    ]
    network = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
    return View().changed([*nodes, network, Framework("f", "marathon"), *leases, *tasks])


async def followed(netns: Path, size: int) -> float:
    """Fail one task's health after another; return the median seconds of CPU of a change."""
    nft = Nft(netns=netns)
    balancer = NftablesServices(nft, flows=Flows(netns=netns))
    ledger = ServiceLedger(node=IPv4Address("198.18.0.1"), pools=(IPv4Network("11.0.0.0/8"),))
    view = cluster(size)
    now = ledger.follow(view)
    loop: IncrementalReconciler[Services, Vip, Service] = IncrementalReconciler(
        balancer,
        lambda: now,
        lambda each: each.by_vip,
        changed_services,
        is_known=balancer.is_known,
    )
    if not await loop.reconcile_once(resync=True):
        raise SystemExit("the data plane refuses the table")
    calm_collector()  # as a plane does
    keys, taken = list(view.tasks), []
    for number in range(CHANGES + 1):
        task = msgspec.structs.replace(view.tasks[keys[number * 37 % len(keys)]], healthy=False)
        view = view.changed([task])  # made once for all tables of a plane
        began = time.process_time()
        now = ledger.follow(view, [(Task.kind, task.key)])
        if not await loop.reconcile_once(resync=False):
            raise SystemExit("the data plane refuses a change")
        taken.append(time.process_time() - began)
    balancer.close()
    nft.close()
    return median(taken[1:])  # the first reads back what was made


def one_change(netns: Path, size: int) -> float:
    """Return the median seconds of CPU from a View's change to the kernel's answer."""
    return asyncio.run(followed(netns, size))
