"""10,000 VIPs into the kernel: from nothing, one change, a restart; IPVS beside ipvsadm."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from claim import Bound, Figure
from lb_follow import one_change
from lb_table import Table, changed, namespace, reconciled, table

from phalanx.lb.exec import Flows
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.nft.library import Nft

ROOT = Path(__file__).parent.parent
SIZES = (10, 1000, 10_000)
GUEST_SIZES = (10, 10_000)  # about five minutes
SECONDS_IN_GUEST = "900"


def measure() -> Sequence[Figure]:
    """Measure nftables here and IPVS in the guest, where only ratios count."""
    return [*_nftables(), *_ipvs()]


def _nftables() -> Sequence[Figure]:
    load: dict[int, float] = {}
    one: dict[int, tuple[float, float]] = {}
    again: dict[int, float] = {}
    view: dict[int, float] = {}
    for size in SIZES:
        wanted = table(size)
        with namespace() as netns:
            load[size], one[size], again[size] = _of(netns, wanted)
        with namespace() as netns:
            view[size] = one_change(netns, size)
    most, small, big = Bound.OURS_AT_MOST, SIZES[0], SIZES[-1]
    return [
        Figure(f"nftables: {big:,} VIPs of 5 from nothing", "s", load[big], most, 2.0),
        Figure(f"nftables: one backend changes among {big:,}", "ms", one[big][0] * 1000, most, 2.0),
        Figure(
            f"nftables: the same; among {small}",
            "ms",
            one[big][0] * 1000,
            Bound.RATIO_AT_MOST,
            2.0,
            one[small][0] * 1000,
        ),
        Figure(f"one change, View to kernel, CPU; {big:,}", "ms", view[big] * 1000, most, 5.0),
        Figure(
            f"the same; among {small}",
            "ms",
            view[big] * 1000,
            Bound.RATIO_AT_MOST,
            2.0,
            view[small] * 1000,
        ),
        Figure(f"nftables: a restart finds {big:,} unchanged", "s", again[big], most, 1.0),
        Figure(
            f"nftables: the whole pass of one change, {big:,}", "ms", one[big][1] * 1000, most, 50.0
        ),
    ]


def _of(netns: Path, wanted: Table) -> tuple[float, tuple[float, float], float]:
    nft = Nft(netns=netns)
    flows = Flows(netns=netns)
    services = NftablesServices(nft, flows=flows)
    load = reconciled(services, wanted)
    one = changed(services, wanted)
    services.close()
    nft.close()
    nft = Nft(netns=netns)
    services = NftablesServices(nft, flows=flows)
    again = reconciled(services, wanted)
    services.close()
    nft.close()
    return load, one, again


def _ipvs() -> Sequence[Figure]:
    python = ROOT / ".venv/bin/python"
    sizes = [str(size) for size in GUEST_SIZES]
    done = subprocess.run(
        [ROOT / "scripts/guest", str(python), "-I", "bench/lb_guest.py", *sizes],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={"GUEST_SECONDS": SECONDS_IN_GUEST, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise SystemExit(f"the guest: {done.stdout}")
    found: Mapping[str, Mapping[str, float]] = json.loads(lines[-1])
    small, big = (found[str(size)] for size in (GUEST_SIZES[0], GUEST_SIZES[-1]))
    most = Bound.RATIO_AT_MOST
    size = GUEST_SIZES[-1]
    return [
        Figure(
            f"IPVS, guest: {size:,} VIPs of 5 from nothing; ipvsadm --restore",
            "s",
            big["write"],
            most,
            1.5,
            big["restore"],
        ),
        Figure(
            f"IPVS, guest: one backend changes among {size:,}; among {GUEST_SIZES[0]}",
            "ms",
            big["change"] * 1000,
            most,
            2.0,
            small["change"] * 1000,
        ),
        Figure(
            f"IPVS, guest: a restart finds {size:,} unchanged; ipvsadm --restore",
            "s",
            big["again"],
            most,
            1.0,
            big["restore"],
        ),
    ]
