"""Which Mesos we are compatible with, and which build of ours this is (reference mesos §3.4)."""

from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from phalanx.mesos.v1.mesos import VersionInfo

VERSION = "1.11.0"  # of the Mesos interface that we offer; clients compare it


@cache
def build_info() -> VersionInfo:
    """Return what ``/version`` tells; we were built when the files that run were written."""
    try:
        own = version("phalanx")
    except PackageNotFoundError:
        own = "0"
    time = float(int(Path(__file__).stat().st_mtime))
    return VersionInfo(
        version=VERSION,
        build_date=f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}",
        build_time=time,
        build_user="phalanx",
        git_tag=f"phalanx-{own}",
    )
