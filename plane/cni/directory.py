"""The CNI configuration directory as a Dataplane, and its twin in memory."""

from collections.abc import Mapping
from pathlib import Path

from phalanx.core.error import DataplaneError
from phalanx.core.files import write_whole
from phalanx.core.reconcile.delta import Delta
from phalanx.net.attachment.request import NAME
from phalanx.plane.cni.config import SUFFIX, is_ours


class CniConfigFiles:
    """A Dataplane of ``<network>.conf`` files, texts by network; other people's are not touched."""

    name = "cni_config"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def read(self) -> Mapping[str, str]:
        """Return the files that carry our mark."""
        texts = {path.stem: _text(path) for path in self._directory.glob(f"*{SUFFIX}")}
        return {name: text for name, text in texts.items() if text is not None and is_ours(text)}

    async def apply(self, change: Delta[str, str]) -> None:
        """Write and remove; a refused file does not hold up the others."""
        refusals: list[str] = []
        for network, text in change.upserts.items():
            refusals += self._write(network, text)
        for network in change.removals:
            refusals += self._remove(network)
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)

    def _write(self, network: str, text: str) -> list[str]:
        if refusal := refusal_of(network):
            return [refusal]
        path = self._directory / f"{network}{SUFFIX}"
        try:
            if (there := _text(path)) is not None and not is_ours(there):
                return [f"{path.name}: is there and not ours"]
            write_whole(path, text.encode())
        except OSError as error:
            return [f"{path.name}: {error.strerror}"]
        return []

    def _remove(self, network: str) -> list[str]:
        path = self._directory / f"{network}{SUFFIX}"
        try:
            if (there := _text(path)) is not None and is_ours(there):
                path.unlink(missing_ok=True)
        except OSError as error:
            return [f"{path.name}: {error.strerror}"]
        return []


class MemoryConfigFiles:
    """A Dataplane that behaves like CniConfigFiles; *foreign* are files that are not ours."""

    name = "cni_config"

    def __init__(self, *foreign: str) -> None:
        self._foreign = frozenset(foreign)
        self._texts: dict[str, str] = {}

    async def read(self) -> Mapping[str, str]:
        """Return a copy of the texts."""
        return dict(self._texts)

    async def apply(self, change: Delta[str, str]) -> None:
        """Put and drop; a refused file does not hold up the others."""
        refusals: list[str] = []
        for network, text in change.upserts.items():
            if refusal := refusal_of(network):
                refusals.append(refusal)
            elif network in self._foreign:
                refusals.append(f"{network}{SUFFIX}: is there and not ours")
            else:
                self._texts[network] = text
        for network in change.removals:
            self._texts.pop(network, None)
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def refusal_of(network: str) -> str | None:
    """Say why a network's name can't be that of a file, or None."""
    return None if NAME.fullmatch(network) else f"{network!r}: is not the name of a CNI network"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
