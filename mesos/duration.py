"""Mesos' spelling of durations, ``10mins`` or ``1.5secs`` (reference mesos §0.2)."""

import re

from phalanx.core.error import InvalidError

# In nanoseconds, longest first.
UNITS = {
    "weeks": 604_800_000_000_000,
    "days": 86_400_000_000_000,
    "hrs": 3_600_000_000_000,
    "mins": 60_000_000_000,
    "secs": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}

_FORM = re.compile(r"^(\d+(?:\.\d+)?)([a-z]+)$")


def parse_duration(text: str) -> float:
    """Return the seconds that *text* stands for; raise InvalidError when it is no duration."""
    match = _FORM.match(text.strip())
    if match is None or match.group(2) not in UNITS:
        raise InvalidError(f"{text!r} is not a duration such as 10secs; units: {', '.join(UNITS)}")
    return float(match.group(1)) * UNITS[match.group(2)] / 1e9


def render_duration(seconds: float) -> str:
    """Return *seconds* in the largest unit that gives a whole number."""
    nanoseconds = round(seconds * 1e9)
    for unit, size in UNITS.items():
        if nanoseconds and nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return "0ns"
