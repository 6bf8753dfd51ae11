"""From a request to the command that serves it."""

from collections.abc import Callable
from typing import Any

from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.bridge import LeasedNetwork
from phalanx.net.attachment.lease import carry_out_lease
from phalanx.net.attachment.request import Command, Request


def carry_out(
    attachments: Attachments, request: Request, network: Callable[[], LeasedNetwork]
) -> dict[str, Any]:
    """Carry out one CNI command and return its result, empty for all but ADD; blocking.

    *network* is asked only by the commands that need to know the network: DEL
    and GC go by what is on disk and in the kernel, so they work after its end.
    """
    if request.leases_of:
        return carry_out_lease(attachments.addresses, request, network)
    match request.command:
        case Command.ADD:
            return attachments.add(request, network())
        case Command.DEL:
            attachments.delete(request)
        case Command.CHECK:
            attachments.check(request, network())
        case Command.GC:
            attachments.collect(request)
        case Command.STATUS:
            attachments.status(network())
    return {}
