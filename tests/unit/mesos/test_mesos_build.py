"""What every daemon tells of its build."""

from datetime import UTC, datetime

from phalanx.mesos.build import build_info
from phalanx.mesos.v1.codec import to_json


def test_a_build_is_told_as_mesos_tells_its() -> None:
    told = to_json(build_info())

    assert told["version"] == "1.11.0"
    date = datetime.strptime(told["build_date"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert date.timestamp() == told["build_time"]
    assert told["build_user"]
    assert told["git_tag"].startswith("phalanx-")
