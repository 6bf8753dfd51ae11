"""What the plane leaves beside its CNI socket, for plugins that find nobody there."""

from collections.abc import Callable

import structlog

from phalanx.net.attachment.bridge import leased_networks
from phalanx.net.attachment.standin import StandIn, save_stand_in, standing_in
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.view import View
from phalanx.plane.config import PlaneConfig

log = structlog.get_logger()


class LeftBehind:
    """Keeps that file as the View has it whose walls stand; a disk that refuses costs a warning."""

    def __init__(self, config: PlaneConfig) -> None:
        self._config = config
        self._view: View | None = None
        self._saved: StandIn | None = None

    def save(self, view: View) -> None:
        """Write the node's networks, if CNI is served here and they are others than before."""
        config, last = self._config, self._view
        if config.cni_config_dir is None:
            return
        if last is not None and last.networks is view.networks and last.subnets is view.subnets:
            return
        stand_in = StandIn(
            leases=str(config.state_dir / "ipam"),
            walls=ISOLATION.table,
            networks=dict(leased_networks(view, node=config.ip)),
        )
        if stand_in != self._saved:
            try:
                save_stand_in(config.cni_socket, stand_in)
            except OSError as error:
                log.warning("stand_in_not_saved", error=str(error))
                return
        self._view, self._saved = view, stand_in

    def alone(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return *function* to be called while no plugin stands in for the plane."""

        def call() -> None:
            with standing_in(self._config.cni_socket, alone=True):
                function()

        return call
