"""Docs say what is there: every metric, every setting, every mark, every bench."""

import re
from pathlib import Path

from phalanx.cli.settings import settings_page

ROOT = Path(__file__).parents[2]

TABLES = {
    "phalanx_lb",
    "phalanx_lb_traffic",
    "phalanx_ipvs",
    "phalanx_isolation",
    "phalanx_nat",
    "phalanx_overlay",
    "phalanx_cni",
}  # of nftables, no metrics
METRIC = re.compile(r"""["'](phalanx_[a-z0-9_]+)["']""")


def test_every_metric_is_documented_and_well_named() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text()
    documented = set(re.findall(r"`(phalanx_\w+)`", text))
    made = {
        name
        for folder in ("core", "net", "dns", "lb", "plane", "master", "agent", "marathon")
        for path in (ROOT / folder).rglob("*.py")
        for name in METRIC.findall(path.read_text())
    }

    assert made - TABLES == documented


def test_every_setting_is_documented() -> None:
    # Made anew by: python -m phalanx.cli.settings > docs/reference/settings.md
    assert (ROOT / "docs/reference/settings.md").read_text() == settings_page()


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
    frame = {"bench_netns", "claim", "daemons", "nameserver", "resolvers"}
    frame |= {"lb_client", "lb_cpu", "lb_follow", "lb_guest", "lb_lab", "lb_table"}
    stems = {path.stem for path in (ROOT / "bench").glob("[a-z]*.py")} - frame
    names = {stem.replace("_", "-") for stem in stems}

    assert {name for name in names if f"`{name}`" not in text} == set()
