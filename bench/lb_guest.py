"""IPVS in the guest, where ``lb_programming.py`` starts it: ``lb_guest.py SIZE …``; prints JSON."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

from lb_table import Table, as_restore, changed, namespace, reconciled, table

from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.net.nft.library import Nft

PASSES = 1  # each reads all back, which takes seconds in there


def measure(size: int) -> Mapping[str, float]:
    """Return the seconds of a table of this size: ours, between two of ipvsadm's."""
    wanted = table(size)
    before = _restored(wanted)
    with _cleared() as netns:
        nft = Nft(netns=netns)
        services = IpvsServices(nft, flows=Flows(netns=netns))
        write = reconciled(services, wanted)
        change, whole = changed(services, wanted, passes=PASSES)
        services.close()
        services = IpvsServices(nft, flows=Flows(netns=netns))
        again = reconciled(services, wanted)
        services.close()
        nft.close()
    restore = (before + _restored(wanted)) / 2
    return {
        "restore": restore, "write": write, "change": change, "pass": whole, "again": again
    }  # fmt: skip


def _restored(wanted: Table) -> float:
    words = as_restore(wanted)
    with _cleared() as netns:
        began = time.perf_counter()
        subprocess.run(_ipvsadm(netns, "--restore"), input=words, text=True, check=True)
        return time.perf_counter() - began


@contextmanager
def _cleared() -> Iterator[Path]:
    """Make a namespace of its own for each table.

    IPVS keeps removed backends of a namespace for a minute, and looks through all of
    them for each that is added: who writes a table that was just cleared pays for it.
    """
    with namespace() as netns:
        yield netns
        subprocess.run(_ipvsadm(netns, "--clear"), check=True)  # or its counting goes on


def _ipvsadm(netns: Path, word: str) -> Sequence[str]:
    return ["ip", "netns", "exec", netns.name, "ipvsadm", word]


if __name__ == "__main__":
    print(json.dumps({size: measure(int(size)) for size in sys.argv[1:]}))
