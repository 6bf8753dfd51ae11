"""Names made fit for DNS, as Mesos-DNS and DC/OS did; pure."""

LABEL_LENGTH = 63  # RFC 1035 §2.3.4
ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
SEPARATORS = frozenset("-_.")
LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # ASCII only


def label(text: str) -> str:
    """Return *text* as one DNS label; empty when nothing of it can stay.

    Separators become dashes and every other character vanishes. A label that
    reaches its greatest length on a dash gives its last dashes up for the
    letters and digits that follow.
    """
    kept: list[str] = []
    is_squeezed = False
    for character in text.translate(LOWER):
        if character in ALPHANUMERIC:
            kept.append(character)
        elif character in SEPARATORS and kept and not is_squeezed:
            kept.append("-")
        if len(kept) == LABEL_LENGTH:
            if kept[-1] != "-":
                break
            _strip_dashes(kept)
            is_squeezed = True
    _strip_dashes(kept)
    return "".join(kept)


def domain_fragment(text: str) -> str:
    """Return *text* as labels joined by dots, without its empty parts."""
    return ".".join(part for part in map(label, text.split(".")) if part)


def _strip_dashes(characters: list[str]) -> None:
    while characters and characters[-1] == "-":
        characters.pop()
