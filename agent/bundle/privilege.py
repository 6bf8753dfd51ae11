"""What a container's process may do: capabilities, limits of its own, devices; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import CapabilityInfo, LinuxInfo, RLimitInfo

COMMON = tuple(
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
        *("NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
INFINITE = 2**64 - 1
MOST_OOM_SCORE = 999
LEAST_OOM_SCORE = 2


@dataclass(frozen=True, slots=True)
class Granted:
    """The capabilities that the operator's settings name; None where they name none."""

    effective: tuple[str, ...] | None = None
    bounding: tuple[str, ...] | None = None


def names_of(info: CapabilityInfo | None) -> tuple[str, ...] | None:
    """Return capabilities as runc calls them; None for none asked."""
    if info is None:
        return None
    return tuple(f"CAP_{name.removeprefix('CAP_')}" for name in info.capabilities)


def capabilities(linux: LinuxInfo | None, granted: Granted, uid: int) -> dict[str, list[str]]:
    """Return the capability sets of a process (reference mesos §6.2).

    A container's words go before the operator's, whose bounding set nobody leaves;
    without any word it has the common ones. Whoever is not root keeps what was
    asked for by name. Raises ContainerError.
    """
    asked_bounding = names_of(linux.bounding_capabilities) if linux else None
    asked = names_of(linux.effective_capabilities or linux.capability_info) if linux else None
    most = granted.bounding
    bounding = asked_bounding if asked_bounding is not None else most
    if most is not None and bounding is not None and set(bounding) - set(most):
        beyond = ", ".join(sorted(set(bounding) - set(most)))
        raise ContainerError(f"Bounding capabilities {beyond}: are not allowed")
    effective: tuple[str, ...]
    if asked is not None:
        effective = asked
    elif granted.effective is not None:
        effective = granted.effective
    elif asked_bounding is not None:
        effective = asked_bounding
    else:
        effective = COMMON if bounding is None else tuple(x for x in COMMON if x in bounding)
    if bounding is None:
        bounding = effective if asked is not None else tuple({*COMMON, *effective})
    extra = sorted(set(effective) - set(bounding))
    if extra:
        raise ContainerError(f"Effective capabilities {', '.join(extra)}: are not allowed")
    sets = {"bounding": bounding, "effective": effective, "permitted": effective}
    if asked is not None and uid != 0:
        sets |= {"inheritable": effective, "ambient": effective}
    return {kind: sorted(names) for kind, names in sets.items()}


def rlimits(info: RLimitInfo | None) -> list[dict[str, Any]]:
    """Return limits of a process as runc is told them; raise ContainerError."""
    found = []
    for limit in info.rlimits if info else ():
        name = str(limit.type).removeprefix("RLMT_")
        if limit.type in (None, "UNKNOWN"):
            raise ContainerError("rlimit_info: type: is unknown")
        if (limit.soft is None) != (limit.hard is None):
            raise ContainerError(f"rlimit_info: {name}: needs both of soft and hard, or neither")
        soft = INFINITE if limit.soft is None else limit.soft
        hard = INFINITE if limit.hard is None else limit.hard
        if soft > hard:
            raise ContainerError(f"rlimit_info: {name}: soft is more than hard")
        found.append({"type": f"RLIMIT_{name}", "soft": soft, "hard": hard})
    return found


def oom_score(request_bytes: float, limit_bytes: float | None, machine_bytes: int) -> int:
    """Return ``oom_score_adj``: who may use more than he asked for dies first, the less he asked.

    *limit_bytes* is None for no limit at all.
    """
    if limit_bytes is not None and limit_bytes <= request_bytes:
        return 0
    score = 1000 - int(1000 * request_bytes / machine_bytes)
    return min(max(score, LEAST_OOM_SCORE), MOST_OOM_SCORE)


def seccomp(profile: Mapping[str, Any], machine: str, held: Sequence[str]) -> dict[str, Any]:
    """Return a profile as runc is told it; Docker's form, with its conditions, is understood.

    *held* are the container's capabilities, by which such conditions decide.
    """
    architectures = list(profile.get("architectures", ()))
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == machine:
            architectures = [machine, *(entry.get("subArchitectures") or ())]
    calls = []
    for rule in profile.get("syscalls") or ():
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        wants, shuns = includes.get("caps") or (), excludes.get("caps") or ()
        if not set(wants) <= set(held) or set(shuns) & set(held):
            continue
        if includes.get("arches") and not _is_one_of(machine, includes["arches"]):
            continue
        if _is_one_of(machine, excludes.get("arches") or ()):
            continue
        names = rule.get("names") or ([rule["name"]] if "name" in rule else [])
        call = {"names": names, "action": rule["action"], "args": rule.get("args") or []}
        if "errnoRet" in rule:
            call["errnoRet"] = rule["errnoRet"]
        calls.append(call)
    return {
        "defaultAction": profile["defaultAction"],
        "architectures": architectures,
        "syscalls": calls,
    }


def _is_one_of(machine: str, arches: Sequence[str]) -> bool:
    names = {"SCMP_ARCH_X86_64": "amd64", "SCMP_ARCH_AARCH64": "arm64"}
    return names.get(machine, machine) in arches
