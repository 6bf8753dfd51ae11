"""The name that an address is known by."""

import asyncio
import socket
from ipaddress import IPv4Address

LOOKUP_SECONDS = 2.0


async def name_of(address: IPv4Address) -> str | None:
    """Return the name of an address if it leads back to it; None for one without, or too late.

    Clients follow our name in redirects: one that leads elsewhere is worse than none.
    """
    if address.is_unspecified:
        return None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            name, _ = await loop.getnameinfo((str(address), 0), socket.NI_NAMEREQD)
            found = await loop.getaddrinfo(name, 0, family=socket.AF_INET)
    except (OSError, TimeoutError):
        return None
    return name if str(address) in {place[4][0] for place in found} else None
