"""The View on disk follows change by change; whatever befell the file, a whole View is read."""

import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest

from phalanx.net.feed.record import Delta, Numbered, Part, Position, Snapshot, after, encode
from phalanx.net.model.objects import Node
from phalanx.net.model.view import View
from phalanx.plane.last_view import MOST_CHANGES, Lacking, LastView, load_last_view

M1 = Node(IPv4Address("198.18.0.11"), "m1", is_master=True)
M2 = Node(IPv4Address("198.18.0.12"), "m2", is_master=True)
A1 = Node(IPv4Address("198.18.0.101"), "a1", agent_id="S0")
VIEW = View().changed([M1, A1])


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    numbered = Numbered(Position("e", 7), VIEW)
    LastView(tmp_path / "below" / "view.json").save(numbered)

    assert load_last_view(tmp_path / "below" / "view.json") == numbered


STEPS = [
    Delta(8, (M2,)),
    Delta(9, (msgspec.structs.replace(M1, hostname="other"),), (("node", A1.key),)),
    Delta(10, (), (("node", M2.key), ("node", "nosuch"), ("task", "nosuch"))),
]


def steps() -> list[Numbered]:
    found = [Numbered(Position("e", 7), VIEW)]
    for delta in STEPS:
        numbered = after(found[-1], delta)
        assert numbered is not None
        found.append(numbered)
    return found


@pytest.mark.parametrize("groups", [[1, 1, 1], [2, 1], [3], [0, 3]])
def test_deltas_are_added_to_what_was_saved(tmp_path: Path, groups: list[int]) -> None:
    path = tmp_path / "view.json"
    last, views = LastView(path), steps()
    assert last.save(views[0])
    whole = path.read_bytes()
    done = 0
    for size in groups:
        assert last.save(views[done + size], STEPS[done : done + size])
        done += size
        assert load_last_view(path) == views[done]

    assert path.read_bytes().startswith(whole)


def test_of_a_file_cut_off_anywhere_what_is_whole_is_read(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    last, views = LastView(path), steps()
    last.save(views[0])
    least = path.stat().st_size
    last.save(views[-1], STEPS)
    raw = path.read_bytes()

    for size in range(0, len(raw), 7):
        path.write_bytes(raw[:size])
        found = load_last_view(path)
        if size >= least:
            assert found in views
        elif size < least - 1:
            assert found is None


def test_garbage_after_a_delta_costs_what_follows_only(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    last, views = LastView(path), steps()
    last.save(views[0])
    last.save(views[1], STEPS[:1])
    with path.open("ab") as file:
        file.write(b"\xff\x00 garbage\n" + encode(STEPS[1]) + b"\n")

    assert load_last_view(path) == views[1]


def test_a_file_that_was_removed_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    last, views = LastView(path), steps()
    last.save(views[0])
    path.unlink()

    assert not last.save(views[1], STEPS[:1])
    assert last.save(views[2], STEPS[1:2])
    assert load_last_view(path) == views[2]


def test_deltas_that_outgrow_the_view_are_followed_by_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phalanx.plane.last_view.LEAST_BYTES", 100)
    path = tmp_path / "view.json"
    last, views = LastView(path), steps()
    last.save(views[0])
    lines = []
    for view, delta in zip(views[1:], STEPS, strict=True):
        last.save(view, [delta])
        lines.append(path.read_bytes().count(b"\n"))
        assert load_last_view(path) == view

    assert 1 in lines


def test_a_full_disk_keeps_what_was_saved_and_no_draft(tmp_path: Path) -> None:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", mounted], check=True)
    try:
        path = mounted / "view.json"
        last, views = LastView(path), steps()
        assert last.save(views[0])
        many = View().changed([Node(IPv4Address("10.0.0.0") + n, "long" * 20) for n in range(1000)])
        assert not last.save(Numbered(Position("f", 1), many))
        assert [each.name for each in mounted.iterdir()] == ["view.json"]
        assert load_last_view(path) == views[0]
        assert last.save(views[1])
        assert load_last_view(path) == views[1]
    finally:
        subprocess.run(["umount", mounted], check=True)


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\x00", b'{"type":"HEARTBEAT"}', b"[" * 10_000])
def test_what_can_not_be_read_is_no_view(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "view.json"
    path.write_bytes(raw)

    assert load_last_view(path) is None
    assert load_last_view(tmp_path / "nosuch.json") is None


def test_a_disk_that_refuses_costs_no_plane(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    LastView(tmp_path / "file" / "view.json").save(Numbered(Position("e", 1), VIEW))

    assert load_last_view(tmp_path / "file" / "view.json") is None


def test_what_the_disk_lacks_is_kept_while_it_is_little() -> None:
    lacking = Lacking()
    deltas = [Delta(n, (M1, M2)[:n]) for n in (1, 2)]
    first = lacking.take()
    for delta in deltas:
        lacking.note(delta)
    lacking.note(delta := Delta(3, removals=(("node", "x"),)))

    assert first is None
    assert lacking.take() == [*deltas, delta]
    assert lacking.take() == []


def test_more_than_a_slow_disk_takes_is_the_whole_view_and_no_list() -> None:
    lacking = Lacking()
    lacking.take()
    flood = Delta(1, removals=tuple(("node", str(n)) for n in range(MOST_CHANGES // 4)))
    for _ in range(5):
        lacking.note(flood)
    whole = lacking.take()
    lacking.note(few := Delta(6))

    assert whole is None
    assert lacking.take() == [few]


def test_a_view_that_is_said_whole_is_saved_whole() -> None:
    lacking = Lacking()
    lacking.take()
    lacking.note(Delta(1))
    lacking.note(Snapshot("e", 2, ()))
    lacking.note(Delta(3))

    assert lacking.take() is None


def test_what_a_later_version_saved_is_read_without_what_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    lines = [
        encode(Part((M1,))).replace(b'"hostname"', b'"shade":"blue","hostname"'),
        encode(Snapshot("e", 7, (A1,))).replace(b'"objects":[', b'"objects":[{"kind":"moon"},'),
        encode(Delta(8, (M2,), (("moon", "x"),))),
        b'{"type":"TIDE","sequence":9}',
        encode(Delta(9, (), (("node", M1.key),))),
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")

    found = load_last_view(path)

    # What a record that is not known would have changed can't be gone on from.
    assert found == Numbered(Position("e", 8), View().changed([M1, A1, M2]))
