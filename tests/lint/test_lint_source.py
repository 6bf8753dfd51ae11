"""Rules of the house that no tool knows, over all of its source."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "core",
    "mesos",
    "net",
    "dns",
    "lb",
    "plane",
    "master",
    "agent",
    "marathon",
    "cni-plugins",
    "cli",
    "labs",
    "bench",
)


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the top-level names of everything that *path* imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_every_module_says_what_it_is() -> None:
    silent = [str(p.relative_to(ROOT)) for p in sources() if not ast.get_docstring(_tree(p))]

    assert silent == []


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        pytest.param("pyroute2", r"(^|/)kernel\.py$|^labs/", id="pyroute2-in-kernel"),
        pytest.param("subprocess", r"(^|/)exec\.py$|^labs/|^bench/|^cni-plugins/", id="subprocess"),
        pytest.param("aiohttp", r"(^|/)(client|app)\.py$|(^|/)api/|^labs/|^bench/", id="aiohttp"),
        pytest.param("dnslib", r"^dns/|^bench/", id="dnslib"),
    ],
)
def test_a_third_party_stays_in_its_room(package: str, allowed: str) -> None:
    elsewhere = [
        name
        for path in sources()
        if package in imports(path) and not re.search(allowed, name := str(path.relative_to(ROOT)))
    ]

    assert elsewhere == []


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in sources()
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text())
    }

    # A CNI plugin and the supervisor have no configuration but their environment;
    # a service manager speaks to a daemon by it.
    assert readers <= {
        "core/config.py",
        "core/service.py",
        "cli/client.py",
        "agent/supervisor.py",
        *(name for name in readers if name.startswith(("cni-plugins/", "labs/", "bench/"))),
    }


def test_cni_plugins_import_the_standard_library_only() -> None:
    for path in sorted((ROOT / "cni-plugins").rglob("*.py")):
        at_import = {
            alias
            for node in _tree(path).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (
                [name.name.split(".")[0] for name in node.names]
                if isinstance(node, ast.Import)
                else [(node.module or "").split(".")[0]]
            )
        }

        assert at_import <= sys.stdlib_module_names | {"phalanx"}, path


def test_no_path_of_a_machine_and_no_leftovers() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    suspicious = re.compile(
        r"NotImplementedError\(\)|\bTODO\b|\bFIXME\b|time\.sleep\(|shell=True|unittest\.mock"
    )
    found = [
        f"{name}: {line.strip()}"
        for name in listed.stdout.splitlines()
        if name.endswith(".py") and (ROOT / name).is_file() and "tests/lint" not in name
        for line in (ROOT / name).read_text().splitlines()
        if suspicious.search(line) and "# waits:" not in line
    ]

    assert found == []
