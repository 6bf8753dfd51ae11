"""Limits of what a container sends and receives, as links and queues.

What it receives waits in a token bucket on the node's end of its veth; what
it sends is led through a link of kind ifb with a bucket of its own. Where the
kernel has no such links, the bucket is on the container's end.
"""

from phalanx.net.netlink import route as nl
from phalanx.net.netlink.shape import led_through, rate_of, token_bucket
from phalanx.net.netlink.wire import (
    CREATE,
    EXCL,
    Conversation,
    attribute,
    nest,
    refusal,
    text,
    u32,
)

TYPE_CHECKING = False  # typing takes longer to load than a limit to set
if TYPE_CHECKING:
    from collections.abc import Callable

EEXIST, ENODEV, UNSUPPORTED = 17, 19, 95
Rate = tuple[int, int]  # bytes a second, bytes at once


class Limiter:
    """The limits of one container's interface.

    *ifb* is the name of the link that what it sends is led through, *alias*
    says whose that is; *inside* returns a conversation in the container's
    namespace and the index of its interface there.
    """

    def __init__(
        self,
        node: Conversation,
        ifb: str,
        alias: str,
        inside: "Callable[[], tuple[Conversation, int]]",
    ) -> None:
        self._node = node
        self._ifb = ifb
        self._alias = alias
        self._inside = inside

    def set(self, veth: nl.Link, inward: Rate, outward: Rate) -> nl.Link | None:
        """Limit; return the link that was made, if one was; raise OSError, having made none."""
        try:
            if inward[0]:
                self._node.change(token_bucket(veth.index, *inward), f"limit of {veth.name}")
            return self._limit_outward(veth, outward) if outward[0] else None
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the link, if there is one; the other buckets go with the veth."""
        [number] = self._node.tell(nl.link(nl.DELLINK, text(nl.NAME, self._ifb)))
        if number not in (0, ENODEV):
            raise refusal(number, self._ifb)

    def faults(self, veth: nl.Link, inward: Rate, outward: Rate) -> list[str]:
        """Compare the rates with the kernel's."""
        faults = []
        if inward[0] and rate_of(self._node, veth.index) != inward[0]:
            faults.append(f"{veth.name} lets another rate in")
        if outward[0]:
            link = nl.find(self._node, self._ifb)
            found = rate_of(self._node, link.index) if link else rate_of(*self._inside())
            if found != outward[0]:
                faults.append(f"{veth.name}: its container may send at another rate")
        return faults

    def _limit_outward(self, veth: nl.Link, outward: Rate) -> nl.Link | None:
        making = nl.link(
            nl.NEWLINK,
            text(nl.NAME, self._ifb),
            u32(nl.MTU, veth.mtu),
            nest(nl.INFO, text(nl.KIND, "ifb")),
            flags=nl.UP,
            change=nl.UP,
            options=CREATE | EXCL,
        )
        [number] = self._node.tell(making)
        if number == EEXIST:  # of a link of this owner's that went with its namespace
            self.remove()
            [number] = self._node.tell(making)
        if number == UNSUPPORTED:
            inside, index = self._inside()
            inside.change(token_bucket(index, *outward), f"limit of {veth.name}'s container")
            return None
        if number:
            raise refusal(number, self._ifb)
        alias = attribute(nl.ALIAS, self._alias[:255].encode())
        self._node.tell(nl.link(nl.NEWLINK, text(nl.NAME, self._ifb), alias))
        link = nl.find(self._node, self._ifb)
        if link is None:
            raise refusal(ENODEV, self._ifb)
        for message in (
            *led_through(veth.index, link.index),
            token_bucket(link.index, *outward),
        ):
            self._node.change(message, f"limit of {veth.name}")
        return link
