"""``python bench NAME [--json]``: run one claim's script; without a name, list them."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from claim import Figure, report

HERE = Path(__file__).parent
UNPACKED = HERE.parent / ".bench" / "usr"  # what scripts/setup-bench fetched
FRAME = {
    *("__main__", "bench_netns", "claim", "daemons", "nameserver", "resolvers"),
    *("lb_client", "lb_follow", "lb_guest", "lb_lab", "lb_table"),
}


def names() -> list[str]:
    """Return the claims that there are."""
    stems = (path.stem for path in HERE.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if stem not in FRAME)


def _module(name: str) -> ModuleType:
    return import_module(name.replace("-", "_"))


def use_unpacked() -> None:
    """Let every program that we start find what was unpacked, and its libraries, first."""
    for name, places in (
        ("PATH", [UNPACKED / "bin", UNPACKED / "sbin"]),
        ("LD_LIBRARY_PATH", sorted(UNPACKED.glob("lib/*-linux-gnu"))),
    ):
        before = [os.environ[name]] if os.environ.get(name) else []
        found = [*(str(place) for place in places if place.is_dir()), *before]
        if found:
            os.environ[name] = os.pathsep.join(found)
    os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/sbin", "/sbin"))


def main() -> int:
    """Measure and print; the exit status is 1 if a goal is not held, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="make bench NAME=…", description=__doc__)
    parser.add_argument("name", nargs="?", help="a claim")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    if given.name is None:
        for name in names():
            summary = (_module(name).__doc__ or "").partition("\n")[0]
            print(f"{name:12} {summary}")
        return 0
    if given.name not in names():
        print(f"no claim named {given.name!r}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    use_unpacked()
    measure: Callable[[], Sequence[Figure]] = _module(given.name).measure
    return report(given.name, measure(), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
