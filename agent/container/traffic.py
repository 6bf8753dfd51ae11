"""What passed through the interfaces of a container's own network."""

from pathlib import Path

FIELDS = ("bytes", "packets", "errors", "dropped")


def network_statistics(pid: int) -> dict[str, int]:
    """Return fields of ``ResourceStatistics`` for the network that a process is in."""
    try:
        text = Path(f"/proc/{pid}/net/dev").read_text()
    except OSError:
        return {}
    return summed(text)


def summed(table: str) -> dict[str, int]:
    """Add up the interfaces of ``/proc/net/dev`` but ``lo``; pure."""
    found = {f"net_{way}_{name}": 0 for way in ("rx", "tx") for name in FIELDS}
    for line in table.splitlines():
        name, colon, rest = line.partition(":")
        if not colon or name.strip() == "lo":
            continue
        numbers = [int(word) for word in rest.split()]
        for way, start in (("rx", 0), ("tx", 8)):
            for offset, field in enumerate(FIELDS):
                found[f"net_{way}_{field}"] += numbers[start + offset]
    return found
