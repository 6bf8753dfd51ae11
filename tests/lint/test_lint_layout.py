"""The top-level directories are the packages; these are the traps of that."""

import re
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


def test_every_directory_of_tests_is_run_by_a_part_of_make_test() -> None:
    targets = dict(
        re.findall(r"^([a-z0-9-]+):(.*(?:\n\t.*)*)", (ROOT / "Makefile").read_text(), re.M)
    )
    [parts] = re.findall(r"scripts/parts (.+)", targets["test"])
    recipes = "".join(targets[part] for part in parts.split())
    there = {path.relative_to(ROOT).parts[1] for path in ROOT.glob("tests/*/**/test_*.py")}

    assert set(re.findall(r"tests/([a-z0-9]+)(?=\s)", recipes + "\n")) == there
