"""What an operation makes of the directories of persistent volumes (reference mesos §4.7)."""

from pathlib import Path

from phalanx.agent.volume.persistent import create_volume, destroy_volume
from phalanx.mesos.v1.mesos import Operation


def carry_out(work: Path, operation: Operation) -> None:
    """Make or remove the directories of an operation's volumes; raise ContainerError."""
    if operation.create is not None:
        for volume in operation.create.volumes:
            create_volume(volume, str(work))
    if operation.destroy is not None:
        for volume in operation.destroy.volumes:
            destroy_volume(volume, str(work))
