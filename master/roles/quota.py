"""Quota as an operator gives it, checked; pure (reference mesos §3.1, §5.3)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from phalanx.core.error import ConflictError, InvalidError
from phalanx.master.roles.consumption import Scalars, shown
from phalanx.mesos.role import role_problem
from phalanx.mesos.v1.mesos import Resource, Scalar, ValueType
from phalanx.mesos.v1.quota import QuotaConfig, QuotaInfo, QuotaRequest, QuotaStatus

EXABYTE = 1_099_511_627_776  # in megabytes, as memory and disk are counted
TRILLION = 1_000_000_000_000
IN_MEGABYTES = frozenset({"mem", "disk"})

BYPASS = "(use 'force' flag to bypass this check)"


def checked_config(config: QuotaConfig) -> QuotaConfig:
    """Return *config* without what says nothing; raise InvalidError when it can't be a quota."""
    problem = role_problem(config.role) if config.role else "Role names cannot be the empty string"
    if problem is not None:
        raise InvalidError(f"Invalid QuotaConfig: Invalid 'QuotaConfig.role': {problem}")
    if "/" in config.role:
        raise InvalidError(f"Updating quota on nested role '{config.role}' is not supported yet")
    for field, word, amounts in (
        ("guarantees", "guarantee", config.guarantees),
        ("limits", "limit", config.limits),
    ):
        for name, scalar in amounts.items():
            if scalar.value < 0:
                raise InvalidError(
                    f"Invalid QuotaConfig: Invalid {word} configuration"
                    f" {_words(amounts)}: Negative values not supported"
                )
            most, name_of_most = (
                (EXABYTE, "1 exabyte") if name in IN_MEGABYTES else (TRILLION, "1 trillion")
            )
            if not scalar.value <= most:
                raise InvalidError(
                    f"Invalid QuotaConfig: Invalid 'QuotaConfig.{field}': {_words(amounts)} is"
                    f" invalid: values greater than {name_of_most} ({most}) are not supported"
                )
    over = any(
        name in config.limits and guarantee.value > config.limits[name].value
        for name, guarantee in config.guarantees.items()
    )
    if over:
        raise InvalidError(
            f"Invalid QuotaConfig: 'QuotaConfig.guarantees' {_braced(config.guarantees)} is not"
            f" contained within the 'QuotaConfig.limits' {_braced(config.limits)}"
        )
    return QuotaConfig(
        role=config.role,
        guarantees={name: item for name, item in config.guarantees.items() if item.value > 0},
        limits=config.limits,
    )


def is_default(config: QuotaConfig) -> bool:
    """Tell whether a quota says nothing: it is that of a role without one."""
    return not config.guarantees and not config.limits


def updated(
    quotas: Mapping[str, QuotaConfig],
    configs: Iterable[QuotaConfig],
    *,
    consumed: Mapping[str, Scalars],
    capacity: Scalars,
    is_forced: bool,
) -> dict[str, QuotaConfig]:
    """Return the quotas after UPDATE_QUOTA; raise InvalidError when they must not become that."""
    after = dict(quotas)
    for config in configs:
        checked = checked_config(config)
        if not is_forced:
            _check_limits(checked, consumed.get(checked.role, {}))
        if is_default(checked):
            after.pop(checked.role, None)
        else:
            after[checked.role] = checked
    if not is_forced:
        total = guaranteed(after.values())
        if exceeds(total, capacity):
            raise InvalidError(
                f"Invalid QuotaConfig: total quota guarantees '{shown(total)}' exceed cluster"
                f" capacity '{shown(capacity)}' {BYPASS}"
            )
    return after


def _check_limits(config: QuotaConfig, consumed: Scalars) -> None:
    over = any(
        consumed.get(name, 0) > round(limit.value * 1000) for name, limit in config.limits.items()
    )
    if over:
        raise InvalidError(
            f"Invalid QuotaConfig: Role '{config.role}' is already consuming"
            f" '{shown(consumed)}'; this is more than the requested limits"
            f" '{shown(thousandths(config.limits))}' {BYPASS}"
        )


def requested(
    quotas: Mapping[str, QuotaConfig], request: QuotaRequest, *, capacity: Scalars
) -> dict[str, QuotaConfig]:
    """Return the quotas after SET_QUOTA, whose guarantee is a limit as well.

    Raises InvalidError for what can't be a quota and ConflictError when the
    cluster can't hold what it guarantees.
    """
    head = "Failed to validate set quota request:"
    role = request.role or ""
    problem = role_problem(role) if role else "Role names cannot be the empty string"
    if problem is not None:
        raise InvalidError(f"{head} QuotaInfo with invalid role: {problem}")
    if not request.guarantee:
        raise InvalidError(f"{head} QuotaInfo with empty 'guarantee'")
    amounts: dict[str, Scalar] = {}
    for resource in request.guarantee:
        if (problem := _guarantee_problem(resource, amounts)) is not None:
            raise InvalidError(f"{head} {problem}")
        assert resource.scalar is not None  # the check above saw it
        amounts[resource.name] = resource.scalar
    if "/" in role:
        raise InvalidError(f"{head} Setting quota on nested role '{role}' is not supported yet")
    if role in quotas:
        raise InvalidError(f"{head} Cannot set quota for role '{role}' which already has quota")
    config = checked_config(QuotaConfig(role=role, guarantees=amounts, limits=amounts))
    after = {**quotas, role: config}
    total = guaranteed(after.values())
    if not request.force and exceeds(total, capacity):
        raise ConflictError(
            "Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total"
            f" quota guarantees '{shown(total)}' exceed cluster capacity '{shown(capacity)}'"
        )
    return after


def _guarantee_problem(resource: Resource, seen: Mapping[str, Scalar]) -> str | None:
    if resource.reservation is not None or resource.reservations:
        return "QuotaInfo must not contain any ReservationInfo"
    if resource.role not in (None, "*"):
        return "QuotaInfo must not contain any ReservationInfo"
    if resource.disk is not None:
        return "QuotaInfo must not contain DiskInfo"
    if resource.revocable is not None:
        return "QuotaInfo must not contain RevocableInfo"
    if resource.type is not ValueType.SCALAR or resource.scalar is None:
        return "QuotaInfo must not include non-scalar resources"
    if resource.scalar.value < 0:
        return (
            f"QuotaInfo with invalid resource: Resource '{resource.name}:"
            f"{resource.scalar.value:g}' is invalid: Invalid scalar resource: value <= 0"
        )
    if resource.name in seen:
        return f"QuotaInfo contains duplicate resource name '{resource.name}'"
    return None


def guaranteed(configs: Iterable[QuotaConfig]) -> Scalars:
    """Return the sum of all guarantees, in thousandths."""
    total: defaultdict[str, int] = defaultdict(int)
    for config in configs:
        for name, amount in thousandths(config.guarantees).items():
            total[name] += amount
    return dict(total)


def exceeds(wanted: Scalars, there: Scalars) -> bool:
    """Tell whether something is wanted that is not there."""
    return any(amount > there.get(name, 0) for name, amount in wanted.items())


def thousandths(amounts: Mapping[str, Scalar]) -> Scalars:
    """Return quantities counted in thousandths."""
    return {name: round(scalar.value * 1000) for name, scalar in amounts.items()}


def quota_status(quotas: Mapping[str, QuotaConfig]) -> QuotaStatus:
    """Return quotas as operators read them, in the old form and in the new."""
    configs = [quotas[role] for role in sorted(quotas)]
    infos = tuple(
        QuotaInfo(
            role=config.role,
            guarantee=tuple(
                Resource(name=name, type=ValueType.SCALAR, scalar=scalar)
                for name, scalar in sorted(config.guarantees.items())
            ),
        )
        for config in configs
    )
    return QuotaStatus(infos=infos, configs=tuple(configs))


def _words(amounts: Mapping[str, Scalar]) -> str:
    return "{" + ", ".join(f"'{name}': {item.value:.15g}" for name, item in amounts.items()) + "}"


def _braced(amounts: Mapping[str, Scalar]) -> str:
    return "{ " + ", ".join(f"{name}: {item.value:.15g}" for name, item in amounts.items()) + " }"
