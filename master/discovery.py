"""What a master finds out about its machine before it starts: its address and its name."""

import asyncio
import socket
from ipaddress import AddressValueError, IPv4Address

from phalanx.core.error import ConfigError
from phalanx.master.config import MasterConfig
from phalanx.master.exec import output_of

LOOKUP_SECONDS = 2.0


async def discovered(config: MasterConfig) -> MasterConfig:
    """Return the settings with address and name filled in; raise ConfigError."""
    ip = None
    if config.ip_discovery_command:
        text = await output_of(config.ip_discovery_command)
        try:
            ip = IPv4Address(text)
        except AddressValueError as error:
            raise ConfigError(f"--ip-discovery-command: {text!r}: {error}") from error
    config = config.found(ip=ip)
    if config.hostname or not config.hostname_lookup:
        return config
    return config.found(hostname=await name_of(config.address))


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
