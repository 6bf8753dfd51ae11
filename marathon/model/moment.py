"""Points in time as Marathon writes them: UTC, milliseconds, sortable as text."""

from datetime import UTC, datetime


def moment(seconds: float) -> str:
    """Write seconds since the epoch as ``2021-07-01T12:34:56.789Z``."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """Return the seconds since the epoch of a moment; raise ValueError if it is none."""
    return datetime.fromisoformat(text).timestamp()


def next_version(now: float, last: str) -> str:
    """Return a version for *now* that sorts after *last* (which may be empty)."""
    version = moment(now)
    if version > last:
        return version
    return moment(seconds_of(last) + 0.001)
