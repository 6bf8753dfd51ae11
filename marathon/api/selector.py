r"""Label selectors: ``a, b==c, d!=e, f in (g,h)`` and their negations, with ``\`` escapes."""

import re
from collections.abc import Callable, Mapping

from phalanx.marathon.api.answer import BadRequestError

Labels = Mapping[str, str]
Selector = Callable[[Labels], bool]

_WORD = r"((?:\\.|[\w.\-/])+)"
_LIST = r"\(\s*((?:\\.|[^()\\])*)\)"
_MEMBER = r"(in|notin)"  # codespell:ignore notin
_FORMS = re.compile(
    rf"\s*(?:{_WORD}\s*(==|!=)\s*{_WORD}|{_WORD}\s+{_MEMBER}\s*{_LIST}|{_WORD})\s*(?:,|$)"
)


def parse_selector(text: str) -> Selector:
    """Return whether labels are selected, as a function; raise BadRequestError."""
    tests: list[Selector] = []
    place = 0
    while place < len(text):
        match = _FORMS.match(text, place)
        if match is None:
            raise BadRequestError(f"label: {text!r} is not a label selector")
        tests.append(_test(*match.groups()))
        place = match.end()
    return lambda labels: all(test(labels) for test in tests)


def _test(
    key: str | None,
    sign: str | None,
    value: str | None,
    member: str | None,
    word: str | None,
    listed: str | None,
    only: str | None,
) -> Selector:
    if key is not None:
        name, wanted = _plain(key), _plain(value or "")
        if sign == "==":
            return lambda labels: labels.get(name) == wanted
        return lambda labels: name in labels and labels[name] != wanted
    if member is not None:
        name = _plain(member)
        values = {_plain(part.strip()) for part in re.split(r"(?<!\\),", listed or "")}
        if word == "in":
            return lambda labels: labels.get(name) in values
        return lambda labels: name in labels and labels[name] not in values
    name = _plain(only or "")
    return lambda labels: name in labels


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
