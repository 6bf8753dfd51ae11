"""Which files of an archive are the image: the manifest of docker save, OCI's index; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phalanx.agent.image.name import DEFAULT_TAG
from phalanx.core.error import ContainerError

REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of an archive that an image is made of, the lowest layer first."""

    config: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which image of an archive; a file that is called by its tag need not say it inside."""

    tag: str | None
    is_exact: bool


def docker_plan(manifest: object, wanted: Wanted) -> Plan:
    """Return the plan of ``manifest.json``; raise ContainerError."""
    entries = [item for item in _list(manifest, "manifest.json") if isinstance(item, dict)]
    tags = [tuple(map(str, item.get("RepoTags") or ())) for item in entries]
    chosen = entries[_choose(tags, wanted)]
    layers = _list(chosen.get("Layers"), "manifest.json: Layers")
    return Plan(str(chosen.get("Config")), tuple(map(str, layers)))


def descriptor_of(index: object, wanted: Wanted, architecture: str) -> Mapping[str, Any]:
    """Return the descriptor of ``index.json`` to follow; raise ContainerError."""
    listed = _list(_object(index, "index.json").get("manifests"), "index.json: manifests")
    entries = [item for item in listed if isinstance(item, dict) and _fits(item, architecture)]
    if not entries:
        raise ContainerError(f"index.json: has nothing for linux on {architecture}")
    names = [(item.get("annotations") or {}).get(REF_NAME) for item in entries]
    return entries[_choose([(str(name),) if name else () for name in names], wanted)]


def oci_plan(manifest: object) -> Plan:
    """Return the plan of an OCI image manifest; raise ContainerError."""
    found = _object(manifest, "image manifest")
    layers = _list(found.get("layers"), "image manifest: layers")
    return Plan(blob_path(found.get("config")), tuple(map(blob_path, layers)))


def blob_path(descriptor: object) -> str:
    """Return where the content that a descriptor names lies in an OCI layout."""
    digest = str(_object(descriptor, "descriptor").get("digest"))
    algorithm, colon, text = digest.partition(":")
    if not colon or "/" in digest:
        raise ContainerError(f"descriptor: digest: {digest!r}: is no digest")
    return f"blobs/{algorithm}/{text}"


def _choose(names: Sequence[tuple[str, ...]], wanted: Wanted) -> int:
    """Return which entry has the tag; one alone need not have it if nothing says otherwise."""
    tag = wanted.tag or DEFAULT_TAG
    for number, entry in enumerate(names):
        if any(_tag(name) == tag for name in entry):
            return number
    if len(names) == 1 and (wanted.is_exact or not names[0]):
        return 0
    held = ", ".join(sorted(name for entry in names for name in entry)) or "no names"
    raise ContainerError(f"the archive has {held}, and not the tag {tag!r}")


def _tag(name: str) -> str:
    return name.rpartition("/")[2].rpartition(":")[2]


def _fits(descriptor: Mapping[str, Any], architecture: str) -> bool:
    platform = descriptor.get("platform")
    if not isinstance(platform, dict):
        return True
    return (platform.get("os"), platform.get("architecture")) == ("linux", architecture)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ContainerError(f"{what}: is not a list")
    return value


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ContainerError(f"{what}: is not an object")
    return value
