"""What an agent finds out about its machine before it starts: its addresses and its name."""

import asyncio
import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from phalanx.agent.config import AgentConfig
from phalanx.agent.exec import run
from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError, ContainerError
from phalanx.core.hostname import name_of

COMMAND_SECONDS = 30.0
SOMEWHERE = HostPort("192.0.2.1", 9)  # of no machine; only the route to it counts


async def discovered(config: AgentConfig) -> AgentConfig:
    """Return the settings with addresses and name filled in; raise ConfigError."""
    ip, ip6 = config.ip, config.ip6
    if config.ip_discovery_command:
        text = await _output("ip-discovery-command", config.ip_discovery_command)
        try:
            ip = IPv4Address(text)
        except AddressValueError as error:
            raise ConfigError(f"--ip-discovery-command: {text!r}: {error}") from error
    if config.ip6_discovery_command:
        text = await _output("ip6-discovery-command", config.ip6_discovery_command)
        try:
            ip6 = IPv6Address(text)
        except AddressValueError as error:
            raise ConfigError(f"--ip6-discovery-command: {text!r}: {error}") from error
    if ip is None:
        masters = config.master.hosts
        ip = await address_towards(masters[0] if masters else SOMEWHERE)
    config = config.found(ip=ip, ip6=ip6)
    if config.hostname or not config.hostname_lookup:
        return config
    return config.found(hostname=await name_of(config.address))


async def _output(key: str, command: str) -> str:
    try:
        done = await run(["/bin/sh", "-c", command], timeout_seconds=COMMAND_SECONDS)
    except (ContainerError, TimeoutError) as error:
        raise ConfigError(f"--{key}: {command!r}: {str(error) or 'hangs'}") from error
    if done.status != 0:
        raise ConfigError(f"--{key}: {command!r}: ended with status {done.status}")
    return done.out.decode(errors="replace").strip()


async def address_towards(host: HostPort) -> IPv4Address:
    """Return the address that this machine would reach a host from; nothing is sent."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            found = await loop.getaddrinfo(host.host, host.port, family=socket.AF_INET)
            probe.connect(found[0][4])
        except OSError:
            return IPv4Address("127.0.0.1")
        return IPv4Address(probe.getsockname()[0])
