"""Calls and answers that the operator APIs of master and agent share (reference mesos §3)."""

from typing import Annotated

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    DurationInfo,
    FileInfo,
    Flag,
    Metric,
    OperationRecord,
    VersionInfo,
)
from phalanx.mesos.v1.wire import U32, U64, n


class GetMetrics(Message, frozen=True, kw_only=True):
    """``Call.GetMetrics``."""

    timeout: Annotated[DurationInfo | None, n(1)] = None


class SetLoggingLevel(Message, frozen=True, kw_only=True):
    """``Call.SetLoggingLevel``."""

    level: Annotated[U32, n(1)]
    duration: Annotated[DurationInfo, n(2)]


class ListFiles(Message, frozen=True, kw_only=True):
    """``Call.ListFiles``."""

    path: Annotated[str, n(1)]


class ReadFile(Message, frozen=True, kw_only=True):
    """``Call.ReadFile``."""

    path: Annotated[str, n(1)]
    offset: Annotated[U64, n(2)]
    length: Annotated[U64 | None, n(3)] = None


class GetHealthAnswer(Message, frozen=True, kw_only=True):
    """``Response.GetHealth``."""

    healthy: Annotated[bool, n(1)]


class GetFlagsAnswer(Message, frozen=True, kw_only=True):
    """``Response.GetFlags``."""

    flags: Annotated[tuple[Flag, ...], n(1)] = ()


class GetVersionAnswer(Message, frozen=True, kw_only=True):
    """``Response.GetVersion``."""

    version_info: Annotated[VersionInfo, n(1)]


class GetMetricsAnswer(Message, frozen=True, kw_only=True):
    """``Response.GetMetrics``."""

    metrics: Annotated[tuple[Metric, ...], n(1)] = ()


class GetLoggingLevelAnswer(Message, frozen=True, kw_only=True):
    """``Response.GetLoggingLevel``."""

    level: Annotated[U32, n(1)]


class ListFilesAnswer(Message, frozen=True, kw_only=True):
    """``Response.ListFiles``."""

    file_infos: Annotated[tuple[FileInfo, ...], n(1)] = ()


class ReadFileAnswer(Message, frozen=True, kw_only=True):
    """``Response.ReadFile``."""

    size: Annotated[U64, n(1)]
    data: Annotated[bytes, n(2)]


class GetOperationsAnswer(Message, frozen=True, kw_only=True):
    """``Response.GetOperations``."""

    operations: Annotated[tuple[OperationRecord, ...], n(1)] = ()
