"""Docs say what is there: every metric, every setting, every mark, every bench."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

METRIC = re.compile(r"""["'](phalanx_[a-z0-9_]+)["']""")
CONFIGS = {
    "master": ("phalanx.master.config", "MasterConfig"),
    "agent": ("phalanx.agent.config", "AgentConfig"),
    "plane": ("phalanx.plane.config", "PlaneConfig"),
    "marathon": ("phalanx.marathon.config", "MarathonConfig"),
}


def test_every_metric_is_documented_and_well_named() -> None:
    documented = set(
        re.findall(r"`(phalanx_\w+)`", (ROOT / "docs/reference/metrics.md").read_text())
    )
    made = {
        name
        for folder in ("core", "net", "dns", "lb", "plane", "master", "agent", "marathon")
        for path in (ROOT / folder).rglob("*.py")
        for name in METRIC.findall(path.read_text())
        if not name.startswith(("phalanx_lb_", "phalanx_isolation_", "phalanx_nat_"))
    } - {"phalanx_lb", "phalanx_isolation", "phalanx_nat"}  # nftables tables

    assert made == documented


@pytest.mark.parametrize("daemon", CONFIGS)
def test_every_setting_is_documented(daemon: str) -> None:
    module, name = CONFIGS[daemon]
    config = getattr(import_module(module), name)
    text = (ROOT / "docs/reference/settings.md").read_text()
    section = text.split(f"## {daemon}\n", 1)[1].split("\n## ", 1)[0]
    documented = set(re.findall(r"^\| `--([a-z0-9-]+)`", section, re.MULTILINE))

    assert documented == {field.name.replace("_", "-") for field in fields(config)}


def test_every_design_page_ends_its_sections_with_review_notes() -> None:
    bare = [
        page.name
        for page in (ROOT / "docs/design").glob("*.md")
        if "Review notes" not in page.read_text()
    ]

    assert bare == []


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/adr").glob("[0-9]*.md"))

    assert numbers == list(range(1, len(numbers) + 1))


def test_every_bench_is_in_the_table() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text()
    names = {path.stem for path in (ROOT / "bench").glob("[a-z]*.py")} - {"claim"}

    assert {name for name in names if f"`{name}`" not in text} == set()
