"""The directory that a container's command works in (reference mesos §4.7)."""

from pathlib import Path

from phalanx.agent.layout import LATEST
from phalanx.core.files import link_whole


def link_latest(run: Path) -> None:
    """Let ``latest`` beside the last run of an executor lead to it; other sandboxes have none."""
    if run.parent.name != "runs":
        return
    link_whole(run.with_name(LATEST), run.name)
