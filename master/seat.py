"""The seat of leadership as one master sees it: who sits there, and whether it is ready."""

from collections.abc import Callable

from phalanx.core.verbosity import Verbosity
from phalanx.master.clock import Clock
from phalanx.master.config import MasterConfig
from phalanx.master.leader import Leader
from phalanx.mesos.file import VirtualFiles
from phalanx.mesos.v1.mesos import MasterInfo


class Seat:
    """Who leads: *holder* by the election; *leader* when it is this master and has recovered.

    *is_certain* tells whether the election's word still holds: a process that
    was stopped for a while has no leader until it has heard again who leads.
    *is_lost* once this master led and must end: nobody should hear of it any more.
    """

    def __init__(self, config: MasterConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.started = clock.wall()
        self.me: MasterInfo | None = None  # known once the port is
        self.holder: MasterInfo | None = None
        self.is_certain: Callable[[], bool] = lambda: True
        self.is_lost = False
        self._leader: Leader | None = None
        self.verbosity = Verbosity()
        log_file = config.log_file
        places = {} if log_file is None else {"/master/log": log_file}
        self.files = VirtualFiles(lambda: places)

    @property
    def leader(self) -> Leader | None:
        """Return the leading parts while this master certainly leads."""
        return self._leader if self._leader is not None and self.is_certain() else None

    @leader.setter
    def leader(self, leader: Leader | None) -> None:
        self._leader = leader

    @property
    def is_mine(self) -> bool:
        """Tell whether this master is the leader, ready or not."""
        return self.me is not None and self.holder is not None and self.holder.id == self.me.id

    @property
    def uptime(self) -> float:
        """Return the seconds since this master started."""
        return self.clock.wall() - self.started

    def leave(self) -> None:
        """Stop leading: what disconnects from now on does so because of us."""
        self.leader = None
        self.holder = None
