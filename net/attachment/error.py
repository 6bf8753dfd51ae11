"""Refusals in the terms of CNI: a code, a message, details."""

import enum

from phalanx.core.error import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PhalanxError,
    UnavailableError,
)


class Code(enum.IntEnum):
    """What went wrong; below 100 as the CNI specification has it, from 100 on our own."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    BAD_ENVIRONMENT = 4
    IO = 5
    BAD_ENCODING = 6
    BAD_CONFIG = 7
    BAD_NETNS = 8
    TRY_LATER = 11
    NOT_AVAILABLE = 50
    KERNEL = 100
    EXISTS = 101
    DIFFERS = 102
    INTERNAL = 999


class CniError(PhalanxError):
    """A CNI command can't be carried out."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def as_json(self) -> dict[str, object]:
        """Return the error object of the wire; *details* only when there are some."""
        bare: dict[str, object] = {"code": int(self.code), "msg": str(self)}
        return {**bare, "details": self.details} if self.details else bare


def cni_error(error: PhalanxError) -> CniError:
    """Put an error of ours into the terms of CNI."""
    match error:
        case CniError():
            return error
        case ConflictError():
            code = Code.EXISTS
        case NotFoundError():
            code = Code.BAD_NETNS
        case InvalidError():
            code = Code.BAD_CONFIG
        case UnavailableError():
            code = Code.TRY_LATER
        case _:
            code = Code.KERNEL
    return CniError(code, str(error))
