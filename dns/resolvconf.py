"""A node's resolv.conf(5) that leads to its own resolver, and remembers whom it replaced; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.zones.hostname import is_domain

MARK = "# Written by phalanx plane; changes are overwritten."
UPSTREAM = "# upstream "
DNS_PORT = 53  # there is no way to name another
MOST_SERVERS = 3  # what resolvers look at (resolv.conf(5), MAXNS)
MOST_SEARCHED = 6  # what old resolvers look at
SEARCH_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What the file should say beside the servers (reference dcos-net §2.1).

    *options* make a client that gets no answer go on to the next address
    soon. Raises ConfigError for a search list that resolvers cut.
    """

    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ("timeout:1", "attempts:3")

    def __post_init__(self) -> None:
        """Raise ConfigError for what a resolver would not read whole."""
        for domain in self.search:
            if not is_domain(domain.strip(".")):
                raise ConfigError(f"--dns-search: {domain!r} is not labels joined by dots")
        if len(self.search) > MOST_SEARCHED or len(" ".join(self.search)) >= SEARCH_CHARACTERS:
            raise ConfigError(
                f"--dns-search: more than {MOST_SEARCHED} domains or {SEARCH_CHARACTERS - 1}"
                " characters: some resolvers look at no more"
            )
        for option in self.options:
            if not option or option.split() != [option]:
                raise ConfigError(f"--dns-options: {option!r} is not one word")


def render_resolv_conf(
    wanted: ResolvConf, listening: Sequence[str], upstreams: Sequence[HostPort]
) -> str:
    """Return the file; *listening* are our addresses that answer.

    When none does, the upstreams take their place, those on port 53: a node
    without its resolver still knows the names of others. They stay in the file as comments, for
    whoever reads from it whom to ask.
    """
    return _rendered(wanted, listening or _usual(upstreams), upstreams)


def render_without_us(
    wanted: ResolvConf, listening: Sequence[str], upstreams: Sequence[HostPort]
) -> str:
    """Return the file for when we have ended and may come again soon.

    One of our addresses comes first: a question that waits in a socket that
    outlives us is answered after a restart. Where nobody listens any more, a client goes on to
    the upstreams at once.
    """
    return _rendered(wanted, [*listening[:1], *_usual(upstreams)], upstreams)


def _usual(upstreams: Sequence[HostPort]) -> list[str]:
    return [each.host for each in upstreams if each.port == DNS_PORT]


def _rendered(wanted: ResolvConf, servers: Sequence[str], upstreams: Sequence[HostPort]) -> str:
    lines = [MARK, *(f"{UPSTREAM}{each}" for each in upstreams)]
    if wanted.options:
        lines.append(f"options {' '.join(wanted.options)}")
    if wanted.search:
        lines.append(f"search {' '.join(wanted.search)}")
    lines += [f"nameserver {each}" for each in servers[:MOST_SERVERS]]
    return "\n".join(lines) + "\n"


def remembered_upstreams(text: str) -> Sequence[str] | None:
    """Return the upstreams in a file of ours; None for a file that is not."""
    lines = text.splitlines()
    if not lines or lines[0] != MARK:
        return None
    return [line.removeprefix(UPSTREAM) for line in lines if line.startswith(UPSTREAM)]
