"""Twins in memory of what the kernel does for attachments and bridges."""

from collections.abc import Collection, Mapping

from phalanx.core.error import ConflictError, DataplaneError, NotFoundError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.attachment.bridge import Bridge
from phalanx.net.attachment.spec import AttachmentSpec


class MemoryBridges:
    """A Dataplane that behaves like KernelBridges; the same tests run on both."""

    name = "bridges"

    def __init__(self) -> None:
        self.held: dict[int, Bridge] = {}
        self.ports: dict[int, int] = {}

    async def read(self) -> Mapping[int, Bridge]:
        """Return a copy of the bridges."""
        return dict(self.held)

    async def apply(self, change: Delta[int, Bridge]) -> None:
        """Upsert, then remove; a bridge with ports stays."""
        self.held.update(change.upserts)
        busy = {vni for vni in change.removals if self.ports.get(vni)}
        for vni in change.removals - busy:
            self.held.pop(vni, None)
        if busy:
            text = "; ".join(f"phx-{vni}: {self.ports[vni]} ports are left" for vni in sorted(busy))
            raise DataplaneError(text, table=self.name)


class MemoryLinks:
    """Links that behave like KernelLinks; *namespaces* maps each path to the ifnames there."""

    def __init__(self, *namespaces: str) -> None:
        self.namespaces: dict[str, set[str]] = {path: {"lo"} for path in namespaces}
        self.attached: dict[str, AttachmentSpec] = {}

    def attach(self, spec: AttachmentSpec) -> None:
        """Make the whole attachment, or nothing."""
        ifnames = self._namespace(spec)
        if spec.veth in self.attached:
            raise ConflictError(f"interface {spec.veth!r} exists on the node already")
        if spec.ifname in ifnames:
            raise ConflictError(f"interface {spec.ifname!r} exists in the container already")
        ifnames.add(spec.ifname)
        self.attached[spec.veth] = spec

    def detach(self, veth: str) -> bool:
        """Remove both ends."""
        if (spec := self.attached.pop(veth, None)) is None:
            return False
        for path in spec.netns:
            self.namespaces.get(path, set()).discard(spec.ifname)
        return True

    def has(self, veth: str) -> bool:
        """Tell whether the node's end is there."""
        return veth in self.attached

    def differences(self, spec: AttachmentSpec) -> list[str]:
        """Compare with the plan that was attached."""
        held = self.attached.get(spec.veth)
        if held is None:
            return [f"link {spec.veth} is missing"]
        if spec.ifname not in self._namespace(spec):
            return [f"interface {spec.ifname} is missing"]
        return [f"address {a} is missing" for a in spec.addresses if a not in held.addresses]

    def veths(self, network: str) -> Collection[str]:
        """Return the node's ends on the network."""
        return [veth for veth, spec in self.attached.items() if spec.bridge.network == network]

    def _namespace(self, spec: AttachmentSpec) -> set[str]:
        for path in spec.netns:
            if path in self.namespaces:
                return self.namespaces[path]
        raise NotFoundError(f"network namespace: {list(spec.netns)}: there is none")
