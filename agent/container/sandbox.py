"""The directory that a container's command works in (reference mesos §4.7)."""

from pathlib import Path

from phalanx.agent.layout import LATEST


def link_latest(run: Path) -> None:
    """Let ``latest`` beside the last run of an executor lead to it; other sandboxes have none."""
    if run.parent.name != "runs":
        return
    temporary = run.with_name(f".{LATEST}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run.name)
    temporary.rename(run.with_name(LATEST))
