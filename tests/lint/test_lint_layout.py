"""The top-level directories are the packages; these are the traps of that."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMESPACE = ROOT / "src" / "phalanx"
COMPONENTS = {
    "core": "core",
    "mesos": "mesos",
    "net": "net",
    "dns": "dns",
    "lb": "lb",
    "plane": "plane",
    "master": "master",
    "agent": "agent",
    "marathon": "marathon",
    "cni": "cni-plugins",
    "cli": "cli",
    "labs": "labs",
}


@pytest.mark.parametrize(("package", "directory"), COMPONENTS.items())
def test_component_is_linked_into_the_namespace(package: str, directory: str) -> None:
    link = NAMESPACE / package

    assert link.is_symlink()
    assert link.resolve() == ROOT / directory


@pytest.mark.parametrize("directory", COMPONENTS.values())
def test_component_root_has_no_init(directory: str) -> None:
    # dns/__init__.py would hide dnspython from whatever runs in the repository root.
    assert not (ROOT / directory / "__init__.py").exists()


def test_bare_dns_is_not_our_folder() -> None:
    spec = find_spec("dns")

    assert spec is None or spec.origin != str(ROOT / "dns" / "__init__.py")


def test_every_tool_looks_at_every_component() -> None:
    linked = {path.name for path in NAMESPACE.iterdir() if path.is_symlink()}
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]

    assert linked == COMPONENTS.keys()
    assert {f"phalanx.{name}" for name in linked} == set(tool["importlinter"]["root_packages"])


def test_every_folder_below_a_component_is_a_package() -> None:
    # import-linter skips a folder without __init__.py and says nothing.
    missing = [
        str(folder.relative_to(ROOT))
        for directory in COMPONENTS.values()
        for folder in (ROOT / directory).rglob("*")
        if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "__init__.py").exists()
    ]

    assert missing == []
