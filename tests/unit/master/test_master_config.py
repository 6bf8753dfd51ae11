"""The settings of a master: what is taken, and what is refused with key and value."""

from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from phalanx.core.config import Loader
from phalanx.core.error import ConfigError
from phalanx.master.app import main
from phalanx.master.config import MasterConfig


def load(*arguments: str, **environ: str) -> MasterConfig:
    loader = Loader(MasterConfig, program="master", about="", environ_prefix="MESOS")
    return loader.load(["--work-dir", "/nowhere", *arguments], environ)


def test_defaults_are_those_of_mesos() -> None:
    config = load()

    assert config.port == 5050
    assert config.unreachable_seconds == 75.0
    assert config.suspect_seconds == 3.0
    assert config.reregister_seconds == 600.0
    assert config.default_networks == {"dcos": IPv4Network("9.0.0.0/8")}
    assert [minimum.scalars for minimum in config.minimums] == [{"cpus": 10}, {"mem": 32000}]


def test_underscores_and_environment_work_too() -> None:
    config = load("--agent_ping_timeout", "2secs", MESOS_CLUSTER="lab", MESOS_HOSTNAME="m1")

    assert config.unreachable_seconds == 10.0
    assert config.flags()["cluster"] == "lab"
    assert config.public_hostname == "m1"


def test_several_default_networks_are_separated_by_commas() -> None:
    config = load("--default-network", "dcos=9.0.0.0/8,blue=10.7.0.0/16")

    assert list(config.default_networks) == ["dcos", "blue"]


def test_flags_leave_out_what_has_no_value() -> None:
    assert "zk" not in load().flags()
    assert load().flags()["allocation_interval"] == "1secs"


def test_zookeeper_is_split_into_hosts_and_path() -> None:
    assert load("--zk", "zk://a:1,b:2/mesos").zookeeper == ("a:1,b:2", "/mesos")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent-ping-timeout", "15s"], "--agent-ping-timeout: '15s'"),
        (["--allocation-interval", "0secs"], "--allocation-interval: 0"),
        (["--default-network", "dcos"], "--default-network: 'dcos'"),
        (["--default-network", "dcos=9.0.0.1/8"], "--default-network: 'dcos=9.0.0.1/8'"),
        (["--min-allocatable-resources", "cpus"], "--min-allocatable-resources: resource 'cpus'"),
        (["--max-agent-ping-timeouts", "0"], "--max-agent-ping-timeouts: 0"),
        (["--port", "70000"], "--port: 70000"),
        (["--zk", "localhost:2181"], "--zk: 'localhost:2181'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_value_is_refused_with_key_and_value(arguments: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load(*arguments)


def test_bad_configuration_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--work-dir", str(tmp_path), "--agent-ping-timeout", "soon"])

    assert status == 2
    assert "--agent-ping-timeout: 'soon'" in capsys.readouterr().err
