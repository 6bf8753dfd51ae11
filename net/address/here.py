"""Whether an address is this machine's."""

import socket

from phalanx.net.model.objects import IPAddress


def is_here(address: IPAddress) -> bool:
    """Tell whether a socket of this network namespace can be bound to *address*."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
