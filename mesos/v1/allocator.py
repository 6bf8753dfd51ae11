"""The allocator's public messages (reference mesos, appendix A)."""

from typing import Annotated

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import FrameworkID, TimeInfo
from phalanx.mesos.v1.wire import n, names

InverseOfferStatusStatus = Annotated[str, names({"UNKNOWN": 1, "ACCEPT": 2, "DECLINE": 3})]


class InverseOfferStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.allocator.InverseOfferStatus``."""

    status: Annotated[InverseOfferStatusStatus, n(1)]
    framework_id: Annotated[FrameworkID, n(2)]
    timestamp: Annotated[TimeInfo, n(3)]
