"""How messages name resources, valid or not."""

import pytest

from phalanx.master.scheduler.wording import words_of_message
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import Resource

CPUS = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (CPUS, "cpus:0.5"),
        (CPUS | {"reservations": [{"role": "r"}]}, "cpus(reservations: [(UNKNOWN,r)]):0.5"),
        (CPUS | {"reservations": [{"type": "DYNAMIC"}]}, "cpus(reservations: [(DYNAMIC,)]):0.5"),
        (
            CPUS
            | {
                "reservations": [
                    {
                        "type": "DYNAMIC",
                        "role": "r",
                        "principal": "p",
                        "labels": {"labels": [{"key": "a", "value": "b"}, {"key": "c"}]},
                    }
                ]
            },
            "cpus(reservations: [(DYNAMIC,r,p,{a: b, c})]):0.5",
        ),
        ({"name": "ports", "type": "RANGES"}, "ports:[]"),
    ],
)
def test_resources_are_named_as_mesos_names_them(resource: object, words: str) -> None:
    assert words_of_message(from_json(Resource, resource)) == words
