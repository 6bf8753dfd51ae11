"""Whom Marathon answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may ask: *credentials* is ``user:password``, None lets everybody.

    *origins* are the web origins whose pages may read answers; ``*`` is any.
    """

    credentials: str | None = None
    origins: frozenset[str] = frozenset()
