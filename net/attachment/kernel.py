"""Attachments and bridges in the kernel, by rtnetlink.

One thread owns the node's netlink socket and does all the work, so calls never
meet half-way, whatever asks for them. For a container's side it enters the
namespace just long enough to open a socket there.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import AF_INET, if_nametoindex
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from phalanx.core.error import ConflictError, DataplaneError, PhalanxError
from phalanx.core.netns import enter
from phalanx.net.attachment.bridge import Bridge, vni_of
from phalanx.net.attachment.container import (
    UP,
    address_of,
    configure,
    container_differences,
    fields_of,
)
from phalanx.net.attachment.namespace import inside, opened
from phalanx.net.attachment.spec import VETH_PREFIX, AttachmentSpec

T = TypeVar("T")

TABLE = "attachment"
HAIRPIN = 1  # IFLA_BRPORT_MODE
GONE = (errno.ENODEV, errno.ENOENT, errno.EADDRNOTAVAIL)
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class KernelLinks:
    """The links of one node and of its containers.

    Call `run` and `close` from anywhere, everything else only inside `run` or
    in `thread`. *netns* is the node's namespace; by default the caller's own.
    """

    def __init__(self, *, netns: Path | None = None) -> None:
        """Open the netlink socket and let the node forward; raise DataplaneError."""
        self._ipr: Any = None
        self._home = -1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attachment")
        try:
            self.run(lambda: self._open(netns))
        except BaseException:
            self._thread.shutdown()
            raise

    def run(self, function: Callable[[], T]) -> T:
        """Call *function* in the thread of the links and wait for it."""
        return self._thread.submit(function).result()

    @property
    def thread(self) -> ThreadPoolExecutor:
        """Return the thread of the links, for an event loop to wait on."""
        return self._thread

    @property
    def pending(self) -> int:
        """Return how many messages nobody has read; it stays small."""
        size: int = self._ipr.asyncore.msg_queue.root.qsize()
        return size

    def close(self) -> None:
        """Close the socket and end the thread, after what is under way."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def attach(self, spec: AttachmentSpec) -> None:
        """Make bridge, veth, address and routes, or leave nothing of them."""
        with opened(spec.netns) as container, ExitStack() as undo, _refusals(spec.veth):
            with self._socket_in(container) as ipr:
                bridge = self.ensure_bridge(spec.bridge, undo)
                self._make_veth(spec, bridge, container)
                undo.callback(_quietly, self.detach, spec.veth)
                self._ipr.brport("set", index=if_nametoindex(spec.veth), mode=HAIRPIN)
                with inside(container, self._home):
                    index = if_nametoindex(spec.ifname)
                configure(ipr, index, spec)
            undo.pop_all()

    def detach(self, veth: str) -> bool:
        """Remove a veth by the name of its node's end; tell whether there was one."""
        with _refusals(veth):
            return _unless_gone(lambda: self._ipr.link("del", ifname=veth))

    def has(self, veth: str) -> bool:
        """Tell whether there is a link of this name on the node."""
        with _refusals(veth):
            return self._link(veth) is not None

    def differences(self, spec: AttachmentSpec) -> list[str]:
        """Compare both ends of an attachment with its plan."""
        with _refusals(spec.veth):
            bridge, veth = self._link(spec.bridge.name), self._link(spec.veth)
            if bridge is None or veth is None:
                absent = spec.bridge.name if bridge is None else spec.veth
                return [f"link {absent} is missing"]
            faults = [] if veth["flags"] & UP else [f"link {spec.veth} is down"]
            if veth.get("master") != bridge["index"]:
                faults.append(f"link {spec.veth} is not on {spec.bridge.name}")
            with opened(spec.netns) as container, self._socket_in(container) as ipr:
                return faults + container_differences(ipr, spec)

    def veths(self, network: str) -> Collection[str]:
        """Return the node's ends on the bridges of the network of this name."""
        with _refusals(network):
            links = self._ipr.link("dump")
        bridges = {
            link["index"]
            for link in links
            if vni_of(link.get("ifname")) is not None and link.get("ifalias") == network
        }
        return [
            link.get("ifname")
            for link in links
            if link.get("master") in bridges and link.get("ifname").startswith(VETH_PREFIX)
        ]

    def bridges(self) -> Mapping[int, Bridge]:
        """Read back our bridges, by VNI."""
        with _refusals("bridges"):
            links = self._ipr.link("dump", kind="bridge")
            addresses = self._ipr.addr("dump", family=AF_INET)
        found: dict[int, Bridge] = {}
        for link in links:
            if (vni := vni_of(link.get("ifname"))) is None or _kind(link) != "bridge":
                continue
            own = [address_of(item) for item in addresses if item["index"] == link["index"]]
            found[vni] = Bridge(
                vni=vni,
                network=link.get("ifalias") or "",
                gateway=own[0] if len(own) == 1 else None,
                mtu=link.get("mtu"),
                mac=link.get("address"),
                is_up=bool(link["flags"] & UP),
            )
        return found

    def ensure_bridge(self, bridge: Bridge, undo: ExitStack | None = None) -> int:
        """Make the bridge if it is not there, set it right if it is; return its index.

        *undo* gets the removal of a bridge that was made now.
        """
        link = self._link(bridge.name)
        if link is None:
            if self._make_bridge(bridge) and undo is not None:
                undo.callback(_quietly, self.remove_bridge, bridge.name)
            link = self._link(bridge.name)
        if link is None or _kind(link) != "bridge":
            raise ConflictError(f"link {bridge.name} is there and no bridge")
        index: int = link["index"]
        if link.get("ifalias") != bridge.network:
            self._ipr.link("set", index=index, ifalias=bridge.network)
        if (link.get("address"), link.get("mtu")) != (bridge.mac, bridge.mtu):
            self._ipr.link("set", index=index, address=bridge.mac, mtu=bridge.mtu)
        if bridge.gateway is not None:
            self._ipr.addr("replace", index=index, **fields_of(bridge.gateway))
        if not link["flags"] & UP:
            self._ipr.link("set", index=index, state="up")
        return index

    def repair_bridge(self, bridge: Bridge) -> None:
        """Make the bridge as it should be, other addresses gone."""
        with _refusals(bridge.name):
            index = self.ensure_bridge(bridge)
            for item in self._ipr.addr("dump", family=AF_INET):
                if item["index"] == index and address_of(item) != bridge.gateway:
                    self._ipr.addr("del", index=index, **fields_of(address_of(item)))

    def remove_bridge(self, name: str) -> None:
        """Remove a bridge that has no port; raise ConflictError if it has one."""
        with _refusals(name):
            if (link := self._link(name)) is None:
                return
            ports = [
                port.get("ifname")
                for port in self._ipr.link("dump")
                if port.get("master") == link["index"]
            ]
            if ports:
                raise ConflictError(f"{name}: {len(ports)} ports are left, {ports[0]} among them")
            _unless_gone(lambda: self._ipr.link("del", index=link["index"]))

    def _open(self, netns: Path | None) -> None:
        with ExitStack() as stack:
            if netns is not None:
                enter(stack.enter_context(opened([netns])))
            self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._ipr = IPRoute(ext_ack=True)
            try:
                FORWARDING.write_text("1")
            except OSError as error:
                raise DataplaneError(f"{FORWARDING}: {error}", table=TABLE) from error

    def _close(self) -> None:
        self._ipr.close()
        os.close(self._home)

    @contextmanager
    def _socket_in(self, container: int) -> Iterator[Any]:
        with inside(container, self._home):
            ipr = IPRoute(ext_ack=True)
        try:
            yield ipr
        finally:
            ipr.close()

    def _link(self, name: str) -> Any | None:  # noqa: ANN401 - a message of pyroute2, untyped
        self._drop_strays()
        try:
            return self._ipr.link("get", ifname=name)[0]
        except NetlinkError as error:
            if error.code in GONE:
                return None
            raise

    def _drop_strays(self) -> None:
        """Drop the acknowledgements that pyroute2 leaves behind, one for each "get", for ever."""
        strays = self._ipr.asyncore.msg_queue.root
        while not strays.empty():
            strays.get_nowait()

    def _make_bridge(self, bridge: Bridge) -> bool:
        """Make a bridge; tell whether it was us, as a plugin without plane may be faster."""
        try:
            self._ipr.link(
                "add",
                ifname=bridge.name,
                kind="bridge",
                address=bridge.mac,
                mtu=bridge.mtu,
                br_stp_state=0,
            )
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            return False
        return True

    def _make_veth(self, spec: AttachmentSpec, bridge: int, container: int) -> None:
        """Make both ends where they belong, in one message."""
        peer = {
            "ifname": spec.ifname,
            "address": spec.mac,
            "mtu": spec.mtu,
            "net_ns_fd": container,
        }
        try:
            self._ipr.link(
                "add",
                ifname=spec.veth,
                kind="veth",
                address=spec.veth_mac,
                mtu=spec.mtu,
                master=bridge,
                state="up",
                peer=peer,
            )
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            where = "on the node" if self._link(spec.veth) is not None else "in the container"
            name = spec.veth if where == "on the node" else spec.ifname
            raise ConflictError(f"interface {name!r} exists {where} already") from error


def _kind(link: Any) -> object:  # noqa: ANN401 - a message of pyroute2, untyped
    return link.get(("linkinfo", "kind"))


def _unless_gone(request: Callable[[], object]) -> bool:
    """Send a removal; tell whether there was something to remove."""
    try:
        request()
    except NetlinkError as error:
        if error.code in GONE:
            return False
        raise
    return True


def _quietly(undo: Callable[[str], object], name: str) -> None:
    """Undo one step; what brought us here matters more than a refusal now."""
    with suppress(PhalanxError):
        undo(name)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn the kernel's refusals into ours."""
    try:
        yield
    except NetlinkError as error:
        raise DataplaneError(f"{what}: {error.args[-1]}", table=TABLE, errno=error.code) from error
    except OSError as error:
        raise DataplaneError(f"{what}: {error}", table=TABLE, errno=error.errno) from error
