"""What Mesos-DNS would call our settings (reference dns §1.7)."""

from collections.abc import Mapping, Sequence

from phalanx.dns.zones.record import RecordType, Soa
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.dns.zones.zone import NAME_SERVER, RESPONSIBLE, zone_start


def shown_config(
    settings: ZoneSettings,
    *,
    listener: str,
    port: int,
    upstreams: Sequence[str],
    zone_upstreams: Sequence[str],
) -> Mapping[str, object]:
    """Return what ``/v1/config`` shows; nothing is refreshed by the clock, so that is 0 s."""
    [soa] = zone_start(0)[RecordType.SOA]
    assert isinstance(soa, Soa)
    return {
        "RefreshSeconds": 0,
        "Domain": settings.domain,
        "TTL": settings.ttl_seconds,
        "Listener": listener,
        "Port": port,
        "Resolvers": list(upstreams),
        "ZoneResolvers": {
            zone: addresses.split("/")
            for zone, _, addresses in (each.partition("=") for each in zone_upstreams)
        },
        "ExternalOn": bool(upstreams),
        "RecurseOn": bool(upstreams),
        "IPSources": list(settings.sources),
        "EnforceRFC952": settings.enforces_rfc952,
        "EnumerationOn": True,
        "ReverseDnsOn": True,
        "SetTruncateBit": True,
        "SRVRecordDefaultWeight": 1,
        "SOAMname": NAME_SERVER,
        "SOARname": RESPONSIBLE,
        "SOARefresh": soa.refresh_seconds,
        "SOARetry": soa.retry_seconds,
        "SOAExpire": soa.expire_seconds,
        "SOAMinttl": settings.negative_ttl_seconds,
    }
