"""Attachments and bridges in the kernel, by rtnetlink.

One thread owns the node's netlink socket and does the work, so calls never
meet half-way, whatever asks for them. For a container's side it enters the
namespace just long enough to open a socket there. Only what goes, goes in a few
threads at once: the kernel takes its time for each, in which nothing is done.
"""

import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import TypeVar

from phalanx.core.error import ConflictError, DataplaneError, PhalanxError
from phalanx.core.netns import enter
from phalanx.net.attachment.bridge import Bridge, Interface, interface, vni_of
from phalanx.net.attachment.container import configure, container_differences, prepare, set_ipv6
from phalanx.net.attachment.namespace import inside, opened
from phalanx.net.attachment.spec import IFB_PREFIX, VETH_PREFIX, AttachmentSpec, ifb_name
from phalanx.net.attachment.wish import NO_LIMITS
from phalanx.net.hostport.forward import accept, withdraw
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.limit import Limiter
from phalanx.net.netlink.wire import Conversation, Message, attribute, refusal, text

T = TypeVar("T")

TABLE = "attachment"
LEAVING = 16  # containers that leave at the same time
GONE = (errno.ENODEV, errno.ENOENT, errno.EADDRNOTAVAIL)
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDING6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")
# Of a bridge with an IPv6 gateway. Without a link-local address that stands, which asking who has
# it takes seconds for, the kernel asks for no neighbour of those that it forwards.
NODE6 = {"disable_ipv6": "0", "accept_ra": "0", "accept_dad": "0"}


class KernelLinks:
    """The links of one node and of its containers.

    Call `run` and `close` from anywhere, everything else only inside `run` or
    in `thread`. *netns* is the node's namespace; by default the caller's own.
    """

    def __init__(self, *, netns: Path | None = None) -> None:
        """Open the netlink socket and let the node forward; raise DataplaneError."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attachment")
        self._of_thread = threading.local()
        self._leavers: list[Conversation] = []
        try:
            self._home, self._node = self.run(lambda: _open(netns))
        except BaseException:
            self._thread.shutdown()
            raise
        self._leaving = ThreadPoolExecutor(
            LEAVING, thread_name_prefix="leaving", initializer=self._begin_leaving
        )

    def run(self, function: Callable[[], T]) -> T:
        """Call *function* in the thread of the links and wait for it."""
        return self._thread.submit(function).result()

    @property
    def thread(self) -> ThreadPoolExecutor:
        """Return the thread of the links, for an event loop to wait on."""
        return self._thread

    @property
    def leaving(self) -> ThreadPoolExecutor:
        """Return the threads in which `detach` may be called, too, by several at a time."""
        return self._leaving

    def close(self) -> None:
        """Close the sockets and end the threads, after what is under way."""
        self._leaving.shutdown()
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def attach(self, spec: AttachmentSpec) -> None:
        """Make bridge, veth, addresses, routes and limits, or leave nothing of them."""
        with opened(spec.netns) as container, ExitStack() as undo, _refusals(spec.veth):
            with self._socket_in(container) as there:
                bridge = self.ensure_bridge(spec.bridge, undo)
                self._make_veth(spec, bridge, container)
                undo.callback(_quietly, self.detach, spec.veth)
                if any(address.version == 6 for address in spec.addresses):
                    with inside(container, self._home):
                        prepare(spec)
                configure(there, spec)
                accept(spec.bridge.name, {family_of(each) for each in spec.addresses})
                if spec.limits != NO_LIMITS:
                    limiter = self._limiter(spec, there)
                    limiter.set(self._own(spec.veth), spec.limits.inward, spec.limits.outward)
            undo.pop_all()

    def detach(self, veth: str) -> bool:
        """Remove a veth, and what limits it, by the name of its node's end; tell if there was one.

        The kernel takes its time to remove a link, so nothing is asked first.
        """
        with _refusals(veth):
            gone = [self._remove(name) for name in (veth, ifb_name(veth))]
            return gone[0]

    def has(self, veth: str) -> bool:
        """Tell whether there is a link of this name on the node."""
        with _refusals(veth):
            return nl.find(self._node, veth) is not None

    def differences(self, spec: AttachmentSpec) -> list[str]:
        """Compare both ends of an attachment with its plan."""
        with _refusals(spec.veth):
            bridge = nl.find(self._node, spec.bridge.name)
            veth = nl.find(self._node, spec.veth)
            if bridge is None or veth is None:
                name = spec.bridge.name if bridge is None else spec.veth
                return [f"link {name} is missing"]
            faults = [] if veth.flags & nl.UP else [f"link {spec.veth} is down"]
            if veth.master != bridge.index:
                faults.append(f"link {spec.veth} is not on {spec.bridge.name}")
            gateways = self._gateways(bridge.index)
            faults += [
                f"gateway {each} is missing"
                for each in spec.bridge.gateways
                if each not in gateways
            ]
            with opened(spec.netns) as container, self._socket_in(container) as talk:
                faults += container_differences(talk, spec)
                limiter = self._limiter(spec, talk)
                return faults + limiter.faults(veth, spec.limits.inward, spec.limits.outward)

    def veths(self, network: str) -> Collection[str]:
        """Return the node's ends on the bridges of the network of this name.

        With them those that went with their namespace and left what limited them.
        """
        with _refusals(network):
            links = nl.links(self._node)
        bridges = {
            link.index for link in links if vni_of(link.name) is not None and link.alias == network
        }
        found = [
            link.name
            for link in links
            if link.master in bridges and link.name.startswith(VETH_PREFIX)
        ]
        found += [
            f"{VETH_PREFIX}{link.name.removeprefix(IFB_PREFIX)}"
            for link in links
            if link.name.startswith(IFB_PREFIX) and link.alias == network
        ]
        return list(dict.fromkeys(found))

    def bridges(self) -> Mapping[int, Bridge]:
        """Read back our bridges, by VNI."""
        found: dict[int, Bridge] = {}
        with _refusals("bridges"):
            for link in nl.links(self._node):
                if link.kind != "bridge" or (vni := vni_of(link.name)) is None:
                    continue
                found[vni] = Bridge(
                    vni=vni,
                    network=link.alias,
                    gateways=self._gateways(link.index),
                    mtu=link.mtu,
                    mac=link.mac,
                    is_up=bool(link.flags & nl.UP),
                )
        return found

    def ensure_bridge(self, bridge: Bridge, undo: ExitStack | None = None) -> int:
        """Make the bridge if it is not there, set it right if it is; return its index.

        *undo* gets the removal of a bridge that was made now.
        """
        link = nl.find(self._node, bridge.name)
        if link is None:
            if self._make_bridge(bridge) and undo is not None:
                undo.callback(_quietly, self.remove_bridge, bridge.name)
            link = nl.find(self._node, bridge.name)
        if link is None or link.kind != "bridge":
            raise ConflictError(f"link {bridge.name} is there and no bridge")
        inner = b""
        if link.alias != bridge.network:
            inner += attribute(nl.ALIAS, bridge.network.encode())
        if (link.mac, link.mtu) != (bridge.mac, bridge.mtu):
            inner += attribute(nl.MAC, nl.mac_of(bridge.mac))
            inner += attribute(nl.MTU, bridge.mtu.to_bytes(4, "little"))
        if inner or not link.flags & nl.UP:
            message = nl.link(nl.NEWLINK, inner, index=link.index, flags=nl.UP, change=nl.UP)
            self._node.change(message, bridge.name)
        there = self._gateways(link.index)
        for gateway in bridge.gateways:
            if gateway not in there:
                if gateway.version == 6:
                    set_ipv6(bridge.name, NODE6)
                    forward6()
                message = _address(link.index, gateway)
                self._node.change(message, f"gateway {gateway} of {bridge.name}")
        return link.index

    def repair_bridge(self, bridge: Bridge) -> None:
        """Make the bridge as it should be, other addresses gone."""
        with _refusals(bridge.name):
            index = self.ensure_bridge(bridge)
            for other in self._gateways(index):
                if other not in bridge.gateways:
                    message = nl.del_address(index, other.packed, other.network.prefixlen)
                    self._node.change(message, f"address {other} of {bridge.name}")

    def remove_bridge(self, name: str) -> None:
        """Remove a bridge that has no port; raise ConflictError if it has one."""
        with _refusals(name):
            if (link := nl.find(self._node, name)) is None:
                return
            ports = [port.name for port in nl.links(self._node) if port.master == link.index]
            if ports:
                raise ConflictError(f"{name}: {len(ports)} ports are left, {ports[0]} among them")
            self._remove(name)
            withdraw(name)

    def _begin_leaving(self) -> None:
        enter(self._home)
        self._of_thread.talk = talk = Conversation()
        self._leavers.append(talk)

    def _close(self) -> None:
        for talk in (self._node, *self._leavers):
            talk.close()
        os.close(self._home)

    @contextmanager
    def _socket_in(self, container: int) -> Iterator[Conversation]:
        with inside(container, self._home):
            there = Conversation()
        try:
            yield there
        finally:
            there.close()

    def _gateways(self, index: int) -> tuple[Interface, ...]:
        """Return the addresses of a bridge but for the link-local ones, IPv4 first."""
        found = [interface(*each) for each in nl.addresses(self._node, index)]
        found = [each for each in found if each.version == 4 or not each.is_link_local]
        return tuple(sorted(found, key=lambda each: (each.version, int(each))))

    def _own(self, name: str) -> nl.Link:
        if (link := nl.find(self._node, name)) is None:
            raise refusal(errno.ENODEV, name)
        return link

    def _limiter(self, spec: AttachmentSpec, there: Conversation) -> Limiter:
        def end() -> tuple[Conversation, int]:
            if (link := nl.find(there, spec.ifname)) is None:
                raise refusal(errno.ENODEV, spec.ifname)
            return there, link.index

        return Limiter(self._node, ifb_name(spec.veth), spec.bridge.network, end)

    def _remove(self, name: str) -> bool:
        """Remove a link by its name; tell whether there was one."""
        talk: Conversation = getattr(self._of_thread, "talk", self._node)
        [number] = talk.tell(nl.link(nl.DELLINK, text(nl.NAME, name)))
        if number and number not in GONE:
            raise refusal(number, name)
        return number == 0

    def _make_bridge(self, bridge: Bridge) -> bool:
        """Make a bridge; tell whether it was us, as a plugin without plane may be faster."""
        message = nl.new_bridge(bridge.name, nl.mac_of(bridge.mac), bridge.mtu)
        [number] = self._node.tell(message)
        if number and number != errno.EEXIST:
            raise refusal(number, bridge.name)
        return number == 0

    def _make_veth(self, spec: AttachmentSpec, bridge: int, container: int) -> None:
        """Make both ends where they belong, in one message."""
        macs = nl.mac_of(spec.veth_mac), nl.mac_of(spec.mac)
        made, marked = self._node.tell(
            nl.new_veth(spec.veth, macs[0], bridge, spec.ifname, macs[1], container, spec.mtu),
            nl.port(spec.veth, alias="", hairpin=True, isolated=False),
        )
        if made == errno.EEXIST:
            where = "on the node" if self.has(spec.veth) else "in the container"
            name = spec.veth if where == "on the node" else spec.ifname
            raise ConflictError(f"interface {name!r} exists {where} already")
        if made:
            raise refusal(made, f"veth {spec.veth}, {spec.ifname}")
        if marked:
            self._remove(spec.veth)
            raise refusal(marked, f"port {spec.veth}")


def forward6() -> None:
    """Let the node forward IPv6, and go on listening to its own routers where it did so far.

    A kernel that forwards takes a router's word only where accept_ra is 2. Call
    it in the node's namespace; raises OSError.
    """
    if FORWARDING6.read_text().strip() == "1":
        return
    for path in FORWARDING6.parents[1].glob("*/accept_ra"):
        with suppress(OSError):
            if path.read_text().strip() == "1":
                path.write_text("2")
    FORWARDING6.write_text("1")


def _open(netns: Path | None) -> tuple[int, Conversation]:
    with ExitStack() as stack, _refusals("node"):
        if netns is not None:
            enter(stack.enter_context(opened([netns])))
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            FORWARDING.write_text("1")
            return home, Conversation()
        except BaseException:
            os.close(home)
            raise


def family_of(address: Interface) -> int:
    """Return the number of an address's family."""
    return AF_INET if address.version == 4 else AF_INET6


def _address(index: int, address: Interface) -> Message:
    return nl.new_address(index, address.packed, address.network.prefixlen)


def _quietly(undo: Callable[[str], object], name: str) -> None:
    """Undo one step; what brought us here matters more than a refusal now."""
    with suppress(PhalanxError):
        undo(name)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn the kernel's refusals into ours."""
    try:
        yield
    except OSError as error:
        words = error.strerror or str(error)
        raise DataplaneError(f"{what}: {words}", table=TABLE, errno=error.errno) from error
