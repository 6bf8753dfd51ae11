"""Labels as Mesos-DNS makes them; the values are those of its own tests."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.dns.zones.hostname import (
    agent_suffix,
    rfc952_domain,
    rfc952_label,
    rfc1123_domain,
    rfc1123_label,
    task_hash,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("4abc123", "4abc123", id="leading-digit-stays"),
        pytest.param("-4abc123-", "4abc123", id="outer-dashes-go"),
        pytest.param("fd%gsf---gs7-f$gs--d7fddg-123", "fdgsf---gs7-fgs--d7fddg-123", id="odd"),
        pytest.param("chronos with a space AND MIXED CASE-2.0.1",
                     "chronoswithaspaceandmixedcase-2-0-1", id="space-and-case"),
        pytest.param("a_b.c", "a-b-c", id="separators-become-dashes"),
        pytest.param("hello" + 56 * "-" + "f", "hello" + 56 * "-" + "f", id="62-long-is-kept"),
        pytest.param("hello" + 58 * "-" + "f", "hellof", id="cut-in-dashes-is-refilled"),
        pytest.param(70 * "x", 63 * "x", id="cut-at-63"),
        pytest.param("é/", "", id="nothing-left"),
    ],
)  # fmt: skip
def test_label_follows_rfc1123(text: str, expected: str) -> None:
    assert rfc1123_label(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("marathon-0.6.0-dev", "marathon-0.6.0-dev", id="digits-stay"),
        pytest.param("Mara..thon.-", "mara.thon", id="empty-parts-go"),
        pytest.param("-.-", "", id="nothing-left"),
    ],
)
def test_domain_is_made_label_by_label(text: str, expected: str) -> None:
    assert rfc1123_domain(text) == expected


@given(st.text(max_size=200))
def test_label_is_always_fit_for_dns(text: str) -> None:
    label = rfc1123_label(text)

    assert re.fullmatch("([a-z0-9][a-z0-9-]{0,62})?", label)


@pytest.mark.parametrize(("task_id", "expected"), [("test", "iffe9"), ("", "5eh48")])
def test_task_hash_is_the_start_of_z_base_32_of_sha1(task_id: str, expected: str) -> None:
    # The first value is pinned by Mesos-DNS. The second by hand: the SHA-1 of nothing begins
    # da39a3ee, in groups of five bits 27 8 28 26 7, which are 5 e h 4 8 of z-base-32.
    assert task_hash(task_id) == expected


def test_agent_suffix_is_what_follows_the_last_dash() -> None:
    assert agent_suffix("20140803-194712-3041283216-5050-2116-S17") == "s17"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("4abc123", "abc123", id="leading-digit-goes"),
        pytest.param("chronos with a space AND MIXED CASE-2.0.1", "chronoswithaspaceandmixe",
                     id="cut-at-24"),
        pytest.param("hello" + 56 * "-" + "f", "hellof", id="cut-in-dashes-is-refilled"),
        pytest.param("123", "", id="nothing-left"),
    ],
)  # fmt: skip
def test_label_follows_rfc952(text: str, expected: str) -> None:
    assert rfc952_label(text) == expected


def test_domain_by_rfc952_drops_labels_of_digits() -> None:
    assert rfc952_domain("marathon-0.6.0-dev") == "marathon-0.dev"


@given(st.text(max_size=200))
def test_label_is_always_fit_for_old_hosts(text: str) -> None:
    label = rfc952_label(text)

    assert re.fullmatch("([a-z][a-z0-9-]{0,23})?", label)
