"""Weights of roles as an operator gives them; pure (reference mesos §5.2)."""

import math
from collections.abc import Iterable, Mapping

from phalanx.core.error import InvalidError
from phalanx.mesos.role import role_problem
from phalanx.mesos.v1.mesos import WeightInfo

PREFIX = "Failed to validate update weights request JSON"


def checked_weights(infos: Iterable[WeightInfo]) -> Mapping[str, float]:
    """Return the weights by role; raise InvalidError for the first that can't be one."""
    found: dict[str, float] = {}
    for info in infos:
        role = (info.role or "").strip()
        problem = role_problem(role) if role else "Role names cannot be the empty string"
        if problem is not None:
            raise InvalidError(f"{PREFIX}: Invalid role '{role}': {problem}")
        if not info.weight > 0 or math.isinf(info.weight):
            raise InvalidError(
                f"{PREFIX} for role '{role}': Invalid weight '{info.weight:g}':"
                " Weights must be positive"
            )
        found[role] = info.weight
    return found


def parsed_weights(text: str) -> Mapping[str, float]:
    """Return the weights of the flag's form ``role=weight,role=weight``; raise InvalidError."""
    infos = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        role, equals, number = part.partition("=")
        try:
            if not equals:
                raise ValueError
            infos.append(WeightInfo(role=role, weight=float(number)))
        except ValueError as error:
            raise InvalidError(f"weight {part!r} is not role=number") from error
    return checked_weights(infos)


def weight_infos(weights: Mapping[str, float]) -> tuple[WeightInfo, ...]:
    """Return weights as v1 messages, by name of their roles."""
    return tuple(WeightInfo(role=role, weight=weights[role]) for role in sorted(weights))
