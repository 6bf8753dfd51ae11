"""Who an address is leased to; pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """An interface of a container; one address of a network at most is leased to it."""

    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.container_id}/{self.ifname}"
