"""Fetching: what is fetched from where to where, and what the cache keeps, as tables and laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.agent.fetch.plan import plan
from phalanx.agent.fetch.shelf import Shelf
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import URI


@pytest.mark.parametrize(
    ("uri", "source", "output", "is_remote"),
    [
        pytest.param(URI(value="http://h/a/f.tgz"), "http://h/a/f.tgz", "f.tgz", True, id="http"),
        pytest.param(
            URI(value="https://h/f.tgz?key=a/b"),
            "https://h/f.tgz?key=a/b",
            "f.tgz",
            True,
            id="query",
        ),
        pytest.param(URI(value="file:///a/b%20c"), "/a/b c", "b c", False, id="file"),
        pytest.param(URI(value="/a/b"), "/a/b", "b", False, id="path"),
        pytest.param(URI(value="b/c"), "/home/b/c", "c", False, id="relative"),
        pytest.param(URI(value="/a/b", output_file="x/y"), "/a/b", "x/y", False, id="output-file"),
    ],
)
def test_a_uri_says_where_from_and_where_to(
    uri: URI, source: str, output: str, is_remote: bool
) -> None:
    [item] = plan([uri], "/home")

    assert (item.source, item.output, item.is_remote) == (source, output, is_remote)


@pytest.mark.parametrize(
    ("name", "extract", "executable", "extracts"),
    [
        *((name, True, None, True) for name in ("a.tar", "a.tgz", "A.TAR.XZ", "a.zip", "a.gz")),
        ("a.jar", True, None, False),
        ("a.tgz", False, None, False),
        ("a.tgz", True, True, False),
    ],
)
def test_archives_are_unpacked_unless_they_are_to_be_run(
    name: str, extract: bool, executable: bool | None, extracts: bool
) -> None:
    [item] = plan([URI(value=f"/x/{name}", extract=extract, executable=executable)])

    assert item.extracts == extracts


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        pytest.param(URI(value="rel/f"), "--frameworks-home", id="relative"),
        pytest.param(URI(value="hdfs://n/f"), "hdfs: is not supported", id="scheme"),
        pytest.param(URI(value="http://h/"), "missing path", id="no-name"),
        pytest.param(URI(value="http://h"), "missing path", id="no-path"),
        pytest.param(URI(value="file://other/f"), "another host", id="other-host"),
        pytest.param(URI(value="/a/b'c"), "not allowed", id="quote"),
        pytest.param(URI(value="/a", output_file="../x"), "not in the sandbox", id="above"),
        pytest.param(URI(value="/a", output_file="/etc/x"), "not in the sandbox", id="absolute"),
        pytest.param(URI(value="http://h/..", output_file=None), "not in the sandbox", id="dots"),
    ],
)
def test_a_bad_uri_is_refused(uri: URI, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        plan([uri])


def test_room_is_made_of_what_was_not_used_for_longest_and_is_not_read() -> None:
    shelf = Shelf(10)
    for name in ("a", "b", "c"):
        shelf.add(("u", name), name, 3)
    read = shelf.find(("u", "b"))
    assert read is not None
    read.readers = 1
    shelf.find(("u", "a"))

    assert shelf.make_room(4) == ("c",)
    assert shelf.make_room(8) is None
    assert shelf.make_room(7) == ("a",)
    assert list(shelf) == [("u", "b")]


@given(st.integers(0, 20), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), max_size=30))
def test_a_cache_never_holds_more_than_it_may(capacity: int, wanted: list[tuple[int, int]]) -> None:
    shelf = Shelf(capacity)
    for number, size in wanted:
        key = ("u", str(number))
        if shelf.find(key) is None and shelf.make_room(size) is not None:
            shelf.add(key, str(number), size)

        assert shelf.used <= capacity
