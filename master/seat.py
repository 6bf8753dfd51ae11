"""The seat of leadership as one master sees it: who sits there, and whether it is ready."""

from phalanx.master.clock import Clock
from phalanx.master.config import MasterConfig
from phalanx.master.leader import Leader
from phalanx.mesos.v1.mesos import MasterInfo


class Seat:
    """Who leads: *holder* by the election; *leader* when it is this master and has recovered."""

    def __init__(self, config: MasterConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.started = clock.wall()
        self.me: MasterInfo | None = None  # known once the port is
        self.holder: MasterInfo | None = None
        self.leader: Leader | None = None

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
