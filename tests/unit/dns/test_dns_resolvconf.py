"""A node's resolv.conf: what it says, whom it remembers, and that it is kept."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.forward.route import name_servers
from phalanx.dns.resolvconf import ResolvConf, remembered_upstreams, render_resolv_conf
from phalanx.plane.resolvconf import ResolvConfKeeper

OURS = ("198.51.100.1", "198.51.100.2", "198.51.100.3")
FIRST, SECOND = HostPort("192.0.2.1", 53), HostPort("192.0.2.2", 5353)
LATER = HostPort("192.0.2.7", 53)


def servers(text: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if words[:1] == ["nameserver"]]


@pytest.mark.parametrize(
    ("listening", "upstreams", "expected"),
    [
        pytest.param(OURS, (FIRST,), list(OURS), id="ours"),
        pytest.param((*OURS, "198.51.100.4"), (), list(OURS), id="no-more-than-three"),
        pytest.param((), (FIRST, SECOND), ["192.0.2.1"], id="none-of-ours-answers"),
        pytest.param((), (), [], id="nobody"),
    ],
)
def test_servers_are_ours_or_those_of_others(
    listening: tuple[str, ...], upstreams: tuple[HostPort, ...], expected: list[str]
) -> None:
    assert servers(render_resolv_conf(ResolvConf(), listening, upstreams)) == expected


def test_search_list_and_options_are_said() -> None:
    wanted = ResolvConf(("marathon.mesos", "corp.example"), ("timeout:1",))

    lines = render_resolv_conf(wanted, OURS, ()).splitlines()

    assert "search marathon.mesos corp.example" in lines
    assert "options timeout:1" in lines


@given(st.lists(st.sampled_from([FIRST, SECOND, HostPort("192.0.2.3", 53)]), unique=True))
def test_whoever_reads_the_file_knows_whom_it_replaced(upstreams: list[HostPort]) -> None:
    text = render_resolv_conf(ResolvConf(), OURS, upstreams)

    assert list(name_servers(text, ())) == [str(each) for each in upstreams]
    assert remembered_upstreams("nameserver 192.0.2.1\n") is None


@pytest.mark.parametrize(
    ("search", "options", "said"),
    [
        (("a b",), (), "dns-search"),
        (tuple(f"d{n}" for n in range(7)), (), "6 domains"),
        (tuple(f"{n}{'x' * 50}.example" for n in range(5)), (), "255 characters"),
        ((), ("timeout:1 attempts:2",), "dns-options"),
    ],
)
def test_what_resolvers_would_cut_is_refused(
    search: tuple[str, ...], options: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        ResolvConf(search, options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "resolv.conf"
    found.write_text("nameserver 192.0.2.1\n")
    return found


def keeper(
    path: Path,
    listening: list[str],
    *,
    upstreams: Sequence[HostPort] = (FIRST,),
    sockets_stay: bool = False,
) -> ResolvConfKeeper:
    return ResolvConfKeeper(
        path,
        ResolvConf(),
        before=path.parent / "state" / "before",
        listening=lambda: listening,
        upstreams=lambda: upstreams,
        sockets_stay=sockets_stay,
    )


def test_file_is_written_once_and_again_when_another_wrote_it(path: Path) -> None:
    keeping = keeper(path, list(OURS))

    assert [keeping.keep(), keeping.keep()] == [True, False]
    assert servers(path.read_text()) == list(OURS)
    path.write_text("nameserver 192.0.2.9\n")
    assert keeping.keep()
    assert servers(path.read_text()) == list(OURS)
    path.unlink()
    assert keeping.keep()
    assert {each.name for each in path.parent.iterdir()} == {"resolv.conf", "state"}


def test_link_stays_a_link_and_its_target_is_written(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)

    keeper(link, list(OURS)).keep()

    assert link.is_symlink()
    assert servers(path.read_text()) == list(OURS)


def test_resolver_that_ends_gives_way_to_its_upstreams(path: Path) -> None:
    listening = list(OURS)
    keeping = keeper(path, listening)
    keeping.keep()
    listening.clear()

    assert keeping.keep()

    assert servers(path.read_text()) == ["192.0.2.1"]


def test_file_that_can_not_be_written_is_left(tmp_path: Path) -> None:
    assert not keeper(tmp_path / "nowhere" / "resolv.conf", list(OURS)).keep()
    assert os.listdir(tmp_path) == []


THEIRS = b"# \xe4\nsearch example.com\nnameserver 192.0.2.1\noptions ndots:2\n"


@pytest.mark.parametrize("ends", [1, 2])
def test_what_was_there_comes_back_at_the_end(path: Path, ends: int) -> None:
    path.write_bytes(THEIRS)
    for _ in range(ends):  # a process that was killed left the file as it kept it
        keeping = keeper(path, list(OURS))
        keeping.keep()

    keeping.leave(asyncio.CancelledError, None, None)
    assert path.read_bytes() == THEIRS

    assert keeper(path, list(OURS)).keep()  # and is kept again after the next start
    assert servers(path.read_text()) == list(OURS)


def test_newest_of_what_others_wrote_comes_back(path: Path) -> None:
    keeping = keeper(path, list(OURS))
    keeping.keep()
    path.write_bytes(THEIRS)
    keeping.keep()

    keeping.leave(None, None, None)

    assert path.read_bytes() == THEIRS


def test_what_another_wrote_last_stays_at_the_end(path: Path) -> None:
    keeping = keeper(path, list(OURS))
    keeping.keep()
    path.write_text("nameserver 192.0.2.9\n")

    keeping.leave(None, None, None)

    assert servers(path.read_text()) == ["192.0.2.9"]


def test_file_stays_after_a_failure(path: Path) -> None:
    keeping = keeper(path, list(OURS))
    keeping.keep()

    keeping.leave(OSError, OSError(), None)

    assert servers(path.read_text()) == list(OURS)


def test_without_a_file_before_us_the_upstreams_are_left(path: Path) -> None:
    path.unlink()
    keeping = keeper(path, list(OURS))
    keeping.keep()

    keeping.leave(None, None, None)

    assert servers(path.read_text()) == ["192.0.2.1"]


def test_socket_that_outlives_us_is_asked_before_the_upstreams(path: Path) -> None:
    path.write_bytes(THEIRS)
    keeping = keeper(path, list(OURS), sockets_stay=True)
    keeping.keep()

    keeping.leave(None, None, None)

    assert servers(path.read_text()) == [OURS[0], "192.0.2.1"]
    assert remembered_upstreams(path.read_text()) == ["192.0.2.1:53"]


def test_what_was_there_need_not_be_kept_for_the_file_to_be_written(path: Path) -> None:
    (path.parent / "state").write_text("in the way of a directory")

    assert keeper(path, list(OURS)).keep()

    assert servers(path.read_text()) == list(OURS)


def test_what_was_there_on_an_earlier_day_does_not_come_back_for_a_file_since_removed(
    path: Path,
) -> None:
    keeper(path, list(OURS)).keep()
    path.unlink()
    keeping = keeper(path, list(OURS), upstreams=[LATER])
    keeping.keep()

    keeping.leave(None, None, None)

    assert servers(path.read_text()) == [LATER.host]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Yield a small file system's root; it is gone afterwards, and what is mounted in it."""
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
    yield place
    subprocess.run(["umount", "-R", place], check=True)


def test_what_was_there_on_an_earlier_day_does_not_come_back_when_the_disk_was_full_since(
    path: Path, mounted: Path
) -> None:
    (path.parent / "state").symlink_to(mounted)
    keeper(path, list(OURS)).keep()
    path.write_bytes(THEIRS)
    with suppress(OSError):
        (mounted / "filling").write_bytes(bytes(1 << 20))
    keeping = keeper(path, list(OURS), upstreams=[LATER])
    keeping.keep()

    keeping.leave(None, None, None)

    assert servers(path.read_text()) == [LATER.host]


def test_file_mounted_in_a_read_only_directory_is_written_in_place(
    path: Path, mounted: Path
) -> None:
    file = mounted / "resolv.conf"
    file.touch()
    (mounted / "state").symlink_to(path.parent)
    subprocess.run(["mount", "--bind", path, file], check=True)
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)

    assert keeper(file, list(OURS)).keep()

    assert servers(path.read_text()) == list(OURS)
