"""The network namespaces of the node and of a container, and the settings in them."""

import posix

from phalanx.cni.skeleton import BAD_NETNS, Refusal
from phalanx.net.netlink.wire import Conversation, enter


class Spaces:
    """Netlink in the node's namespace and in the container's."""

    def __init__(self, netns: int) -> None:
        self.netns = netns
        self.node = Conversation()
        self._home = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            enter(netns)
        except OSError as error:
            raise Refusal(BAD_NETNS, f"CNI_NETNS: {error.strerror}") from error
        try:
            self.container = Conversation()
        finally:
            enter(self._home)

    def set_inside(self, path: str, value: str) -> None:
        """Write a file below /proc/sys/net as the container sees it, if there is such a file."""
        enter(self.netns)
        try:
            write_setting(path, value)
        finally:
            enter(self._home)


def write_setting(path: str, value: str) -> None:
    """Write a file below /proc/sys unless it holds the value already; one that lacks is left."""
    try:
        descriptor = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if posix.read(descriptor, 64).strip() != value.encode():
            posix.pwrite(descriptor, value.encode(), 0)
    finally:
        posix.close(descriptor)
