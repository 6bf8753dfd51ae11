"""What the kernel does for attachments, to those who ask for it."""

from collections.abc import Collection
from typing import Protocol

from phalanx.net.attachment.spec import AttachmentSpec


class Links(Protocol):
    """The links of one node and of its containers; blocking, one call at a time."""

    def attach(self, spec: AttachmentSpec) -> None:
        """Make the whole attachment, or leave nothing of it.

        Raises ConflictError when the interface exists, NotFoundError without
        the container's namespace, DataplaneError for any other refusal.
        """
        ...

    def detach(self, veth: str) -> bool:
        """Remove an attachment by the name of its node's end; tell whether there was one."""
        ...

    def has(self, veth: str) -> bool:
        """Tell whether there is a link of this name on the node."""
        ...

    def differences(self, spec: AttachmentSpec) -> list[str]:
        """Say what of an attachment is missing or not as planned; nothing when all is well."""
        ...

    def veths(self, network: str) -> Collection[str]:
        """Return the node's ends on the bridges of the network of this name."""
        ...
