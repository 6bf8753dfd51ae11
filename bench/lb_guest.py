"""IPVS in the guest, where ``lb_programming.py`` starts it: ``lb_guest.py SIZE …``; prints JSON."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

from lb_table import as_restore, changed, namespace, reconciled, table

from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.net.nft.library import Nft

PASSES = 1  # each reads all back, which takes seconds in there


def measure(size: int) -> Mapping[str, float]:
    """Return the seconds of a table of this size: ours and ipvsadm's."""
    wanted = table(size)
    with namespace() as netns:
        inside = ["ip", "netns", "exec", netns.name, "ipvsadm"]
        began = time.perf_counter()
        subprocess.run([*inside, "--restore"], input=as_restore(wanted), text=True, check=True)
        restore = time.perf_counter() - began
        subprocess.run([*inside, "--clear"], check=True)
        nft = Nft(netns=netns)
        services = IpvsServices(nft, flows=Flows(netns=netns))
        write = reconciled(services, wanted)
        change, whole = changed(services, wanted, passes=PASSES)
        services.close()
        services = IpvsServices(nft, flows=Flows(netns=netns))
        again = reconciled(services, wanted)
        services.close()
        nft.close()
    return {
        "restore": restore, "write": write, "change": change, "pass": whole, "again": again
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps({size: measure(int(size)) for size in sys.argv[1:]}))
