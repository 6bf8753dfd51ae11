"""What is kept of network namespaces: as long as there is one."""

import subprocess
from pathlib import Path

from phalanx.core.netns import call_in
from phalanx.net.hostport.orphan import remove_kept, remove_orphans
from phalanx.net.netlink.wire import namespace_cookie


def keep(directory: Path, cookie: int) -> Path:
    place = directory / str(cookie) / "red"
    place.mkdir(parents=True)
    (place / "file").write_text("{}")
    return place.parent


def test_only_what_is_of_namespaces_that_are_gone_goes(ns: str, tmp_path: Path) -> None:
    named = keep(tmp_path, call_in(Path("/run/netns", ns), namespace_cookie))
    own = keep(tmp_path, namespace_cookie())
    gone = keep(tmp_path, 1 << 60)
    (tmp_path / ".forward").write_text("")

    assert remove_orphans(directory=tmp_path) == [gone.name]
    assert {path.name for path in tmp_path.iterdir()} == {named.name, own.name, ".forward"}


def test_namespace_in_which_only_a_process_is_keeps_its_own(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        cookie = call_in(Path(f"/proc/{process.pid}/ns/net"), namespace_cookie)
        there = keep(tmp_path, cookie)
        gone = keep(tmp_path, 1 << 60)

        assert remove_orphans(directory=tmp_path) == [gone.name]
        assert there.exists()
    finally:
        process.kill()
        process.communicate()

    keep(tmp_path, 1 << 60)
    assert there.name in remove_orphans(directory=tmp_path)


def test_namespace_that_is_about_to_go_takes_its_own_along(ns: str, tmp_path: Path) -> None:
    there = keep(tmp_path, call_in(Path("/run/netns", ns), namespace_cookie))
    remove_kept(Path("/run/netns", ns), directory=tmp_path)

    assert not there.exists()
