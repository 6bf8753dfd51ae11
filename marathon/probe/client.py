"""One probe of one task: an HTTP request or a TCP connection."""

import asyncio
from contextlib import suppress

import aiohttp

from phalanx.marathon.model.check import HealthCheck, HealthProtocol, ReadinessCheck
from phalanx.marathon.schedule.health import Probe
from phalanx.marathon.schedule.readiness import FAILED_STATUS, Reply

PASSING = range(200, 400)
MOST_BODY = 16 * 1024  # bytes of an answer that are kept


class Prober:
    """Probes tasks over the network; certificates are not verified, redirects not followed."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def probe(self, check: HealthCheck, host: str, port: int) -> Probe:
        """Return the result of *check* at *host* and *port*; never raises for what it meets."""
        try:
            async with asyncio.timeout(check.timeout_seconds):
                if check.protocol is HealthProtocol.TCP:
                    return await self._connect(host, port)
                return await self._request(check, host, port)
        except TimeoutError:
            return Probe(f"no answer in {check.timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Probe(str(error) or type(error).__name__)

    async def ask(self, check: ReadinessCheck, host: str, port: int) -> Reply:
        """Return what a readiness check is answered; never raises for what it meets."""
        shown = f"[{host}]" if ":" in host else host
        try:
            async with (
                asyncio.timeout(check.timeout_seconds),
                self._session.get(
                    f"{check.protocol.lower()}://{shown}:{port}{check.path}",
                    allow_redirects=False,
                    ssl=False,
                    headers={"Connection": "close"},
                ) as response,
            ):
                body = await response.content.read(MOST_BODY)
                text = body.decode(errors="replace")
                return Reply(response.status, response.headers.get("Content-Type", ""), text)
        except TimeoutError:
            words = f"no answer in {check.timeout_seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
        return Reply(FAILED_STATUS, "text/plain", words)

    async def _connect(self, host: str, port: int) -> Probe:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return Probe(None)

    async def _request(self, check: HealthCheck, host: str, port: int) -> Probe:
        scheme = "https" if check.protocol is HealthProtocol.HTTPS else "http"
        shown = f"[{host}]" if ":" in host else host
        async with self._session.get(
            f"{scheme}://{shown}:{port}{check.path or '/'}",
            allow_redirects=False,
            ssl=False,
            headers={"Connection": "close"},
        ) as response:
            if response.status in PASSING:
                return Probe(None)
            return Probe(f"status {response.status} {response.reason or ''}".rstrip())
