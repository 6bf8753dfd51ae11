"""What is written down about a lab, and its lock."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

import phalanx.labs.place
from phalanx.core.error import ConflictError
from phalanx.labs.place import Place
from phalanx.labs.process import Birth
from phalanx.labs.record import (
    ProcessRecord,
    Record,
    locked,
    read_record,
    record_from_json,
    record_to_json,
    write_record,
)
from phalanx.labs.topology import spread

MASTER = ProcessRecord("m1", "master", ("phalanx", "master"), Birth(12, 3456))
PLANE = ProcessRecord("m1", "plane", ("phalanx", "plane"))
RECORD = Record(spread(), (MASTER, PLANE), complete=True, powered_off=frozenset({"a1"}))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(phalanx.labs.place, "LABS", tmp_path)
    return Place("t1")


def test_record_reads_back_the_same() -> None:
    assert record_from_json(json.loads(json.dumps(record_to_json(RECORD)))) == RECORD


def test_process_takes_the_place_of_the_one_of_its_name() -> None:
    started = replace(PLANE, birth=Birth(13, 1))

    assert RECORD.with_process(started).processes == (MASTER, started)


def test_process_that_is_new_is_added() -> None:
    other = ProcessRecord("a1", "plane", ("phalanx",))

    assert RECORD.with_process(other).of_node("a1") == (other,)


def test_written_record_is_found_again(place: Place) -> None:
    place.directory.mkdir()
    write_record(place, RECORD)

    assert read_record(place) == RECORD
    assert os.listdir(place.directory) == ["lab.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"topology": null}'])
def test_torn_record_reads_as_none(place: Place, text: str) -> None:
    place.directory.mkdir()
    place.record.write_text(text)

    assert read_record(place) is None


def test_second_holder_of_the_lock_is_refused(place: Place) -> None:
    second = locked(place)

    with locked(place), pytest.raises(ConflictError, match="lab t1: another command"):
        second.__enter__()


def test_lock_is_free_after_its_holder(place: Place) -> None:
    with locked(place):
        pass

    with locked(place):
        assert place.directory.is_dir()


def test_lock_that_was_removed_with_its_lab_is_made_anew(place: Place) -> None:
    with locked(place):
        place.directory.rmdir()

        with locked(place):
            assert place.directory.is_dir()
