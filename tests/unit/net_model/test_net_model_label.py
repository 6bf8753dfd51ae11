"""Sanitising is pinned by DC/OS's own table."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.model.label import domain_fragment, label

STEM = "fdgsf---gs7-fgs--d7fddg123456789012345678901234567890123456789"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/api.hello-world", "api-hello-world"),
        ("/mygroup/myapp", "mygroupmyapp"),
        ("/Foo.Bar_baz-", "foo-bar-baz"),
        ("a..b", "a--b"),
        ("_x", "x"),
        ("fd%gsf---gs7-f$gs--d7fddg-123", "fdgsf---gs7-fgs--d7fddg-123"),
        ("-4abc123", "4abc123"),
        ("89fdgsf---gs7-fgs--d7fddg-", "89fdgsf---gs7-fgs--d7fddg"),
        (f"##{STEM}-", STEM),
        (f"{STEM}-123", f"{STEM}1"),
        (f"%%{STEM}---123", f"{STEM}1"),
        ("", ""),
        ("/", ""),
        ("Ünï", "n"),
    ],
)
def test_label_is_as_dcos_made_it(text: str, expected: str) -> None:
    assert label(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/api.hello-world", "api.hello-world"),
        ("/mygroup/myapp", "mygroupmyapp"),
        ("/Foo.Bar_baz-", "foo.bar-baz"),
        ("a..b", "a.b"),
        ("_x", "x"),
        ("fd%gsf---gs7-f$gs--d7fddg-123", "fdgsf---gs7-fgs--d7fddg-123"),
        (".%.", ""),
    ],
)
def test_domain_fragment_is_as_dcos_made_it(text: str, expected: str) -> None:
    assert domain_fragment(text) == expected


@given(st.text(alphabet=string.printable + "äß", max_size=150))
def test_label_is_fit_for_dns_and_stays_as_it_is(text: str) -> None:
    made = label(text)

    assert len(made) <= 63
    assert set(made) <= set(string.ascii_lowercase + string.digits + "-")
    assert not made.startswith("-")
    assert not made.endswith("-")
    assert label(made) == made
