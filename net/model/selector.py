"""Selectors of policies: the ends of flows, in words; pure.

``any``, a prefix or an address, a network's name, ``key=value`` of a task's
labels, or ``/path`` of a Marathon app.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from phalanx.net.model.objects import IPAddress, IPNetwork, Task
from phalanx.net.model.view import View

ANY = "any"
EVERYWHERE: tuple[IPNetwork, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True, order=True)
class Prefix:
    """Every address of some prefixes."""

    prefixes: tuple[IPNetwork, ...]


@dataclass(frozen=True, slots=True, order=True)
class Named:
    """Every address of a virtual network."""

    network: str


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """The containers of tasks with a label."""

    label: str
    value: str

    def matches(self, task: Task) -> bool:
        """Tell whether *task* has the label."""
        return (self.label, self.value) in task.labels


@dataclass(frozen=True, slots=True, order=True)
class App:
    """The containers of a Marathon app, by the discovery name that Marathon gives its tasks."""

    path: str

    @property
    def discovery_name(self) -> str:
        """Return what its tasks are discovered as: ``web.prod`` for ``/prod/web``."""
        return ".".join(reversed(self.path.strip("/").split("/")))

    def matches(self, task: Task) -> bool:
        """Tell whether *task* is an instance."""
        return task.discovery_name == self.discovery_name


Selector = Prefix | Named | Label | App


def parse_selector(text: str) -> Selector:
    """Return what *text* selects; raise ValueError when it can select nothing.

    Whether there is a network of the name is not asked.
    """
    if text == ANY:
        return Prefix(EVERYWHERE)
    if text.startswith("/"):
        if not text.strip("/"):
            raise ValueError("an app's id has a name after the slash")
        return App(text)
    key, equals, value = text.partition("=")
    if equals:
        if not key:
            raise ValueError("a label has a key before the equals sign")
        return Label(key, value)
    if ":" in text or "/" in text or text[-1:].isdecimal():
        try:
            return Prefix((ip_network(text),))
        except ValueError as error:
            if ":" in text or "/" in text:
                raise ValueError(str(error)) from error
    return Named(text)


def prefixes_of(selector: Selector, view: View) -> tuple[IPNetwork, ...]:
    """Return the prefixes that are selected whole; none for a selector of tasks."""
    match selector:
        case Prefix(prefixes):
            return prefixes
        case Named(name) if name in view.networks:
            return view.networks[name].subnets
        case _:
            return ()


def container_addresses(task: Task, view: View) -> Iterator[IPAddress]:
    """Yield the addresses of a task's container that lie in the network it names for them.

    A container on its node's own network has none: its address is the node's.
    """
    for name, address in task.attached:
        network = view.networks.get(name)
        if network is not None and any(
            address in subnet for subnet in network.subnets if subnet.version == address.version
        ):
            yield address
