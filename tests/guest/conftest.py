"""What runs in the guest of ``make test-ipvs``, or wherever the kernel has IPVS and we are root."""

import os

from phalanx.lb.ipvs.kernel import has_ipvs

collect_ignore_glob = [] if os.geteuid() == 0 and has_ipvs() else ["lb/*", "lab/*", "cni/*"]
