"""Roles: a hierarchy of names joined by ``/`` (reference mesos §5.2); pure."""

DEFAULT = "*"


def role_problem(role: str) -> str | None:
    """Return what is wrong with a role's name, None when it may be one."""
    if role == DEFAULT:
        return None
    if not role:
        return "Role names cannot be the empty string"
    if role.startswith("/"):
        return f"Role '{role}' cannot start with a slash"
    if role.endswith("/"):
        return f"Role '{role}' cannot end with a slash"
    if "//" in role:
        return f"Role '{role}' cannot contain two adjacent slashes"
    for part in role.split("/"):
        if part in (".", "..", DEFAULT):
            return f"Role '{role}' cannot include '{part}' as a component"
        if part.startswith("-"):
            return f"Role component '{part}' is invalid because it starts with a dash"
        if any(character in part for character in "\t\n\v\f\r \b"):
            return f"Role component '{part}' is invalid because it contains backspace or whitespace"
    return None


def ancestors(role: str) -> tuple[str, ...]:
    """Return the roles above *role*, the nearest first."""
    parts = role.split("/")
    return tuple("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))


def is_within(role: str, other: str) -> bool:
    """Tell whether *role* is *other* or below it."""
    return role == other or role.startswith(f"{other}/")


def top_of(role: str) -> str:
    """Return the top-level role that *role* is in."""
    return role.partition("/")[0]
