"""Quota: what is guaranteed to a role and what it may have at most (reference mesos §5.3)."""

from typing import Annotated

import msgspec

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import Resource, Scalar
from phalanx.mesos.v1.wire import n


class QuotaInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.quota.QuotaInfo``."""

    role: Annotated[str | None, n(1)] = None
    principal: Annotated[str | None, n(2)] = None
    guarantee: Annotated[tuple[Resource, ...], n(3)] = ()


class QuotaRequest(Message, frozen=True, kw_only=True):
    """``mesos.v1.quota.QuotaRequest``."""

    force: Annotated[bool | None, n(1)] = None
    role: Annotated[str | None, n(2)] = None
    guarantee: Annotated[tuple[Resource, ...], n(3)] = ()


class QuotaConfig(Message, frozen=True, kw_only=True):
    """``mesos.v1.quota.QuotaConfig``."""

    role: Annotated[str, n(1)]
    guarantees: Annotated[dict[str, Scalar], n(2)] = msgspec.field(default_factory=dict)
    limits: Annotated[dict[str, Scalar], n(3)] = msgspec.field(default_factory=dict)


class QuotaStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.quota.QuotaStatus``."""

    infos: Annotated[tuple[QuotaInfo, ...], n(1)] = ()
    configs: Annotated[tuple[QuotaConfig, ...], n(2)] = ()
