"""Every error that this project raises on purpose.

* PhalanxError
  x ConfigError           the operator wrote something that can't be used
  x InvalidError          a caller's request can't be used as it stands
  x NotFoundError         the caller named something that is not there
  x ConflictError         what is asked for collides with what is there
  x UnavailableError      not now: no leader, not in sync, still starting; trying again may help
  x ProtocolError         a peer sent bytes that break the protocol between us
  x DataplaneError        the kernel refused, or a tool that talks to it did
  x ContainerError        the container runtime refused
"""


class PhalanxError(Exception):
    """Base of every error raised on purpose; anything else is a bug."""


class ConfigError(PhalanxError):
    """The operator's configuration can't be used; the message names key and value."""


class InvalidError(PhalanxError):
    """A request can't be used as it stands; the message names the field and the value."""


class NotFoundError(PhalanxError):
    """What the caller named is not there."""


class ConflictError(PhalanxError):
    """What is asked for collides with what is there."""


class UnavailableError(PhalanxError):
    """The answer is not to be had now; trying again, here or elsewhere, may help."""


class ProtocolError(PhalanxError):
    """A peer broke the protocol."""


class DataplaneError(PhalanxError):
    """The kernel refused a change."""

    def __init__(self, message: str, *, table: str, errno: int | None = None) -> None:
        super().__init__(f"{table}: {message}")
        self.table = table
        self.errno = errno


class ContainerError(PhalanxError):
    """The container runtime refused."""
