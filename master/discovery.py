"""What a master finds out about its machine before it starts: its address and its name."""

from ipaddress import AddressValueError, IPv4Address

from phalanx.core.error import ConfigError
from phalanx.core.hostname import name_of
from phalanx.master.config import MasterConfig
from phalanx.master.exec import output_of


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
