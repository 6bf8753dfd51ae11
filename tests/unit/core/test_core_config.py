"""Settings come from flags, environment, file and defaults, and say what is wrong with them."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from phalanx.core.config import (
    HostPort,
    Loader,
    MasterAddress,
    ZooKeeperAddress,
    fixed,
    rendered,
    setting,
)
from phalanx.core.error import ConfigError


@dataclass(frozen=True, slots=True)
class Example:
    ip: IPv4Address = setting("address to listen on")
    port: int = setting("port to listen on", default=5050)
    work_dir: Path = setting("where to keep files", default=Path("/var/lib/x"))
    masters: tuple[HostPort, ...] = setting("where masters are", default=())
    quiet: bool = setting("say less", default=False)
    zone: str | None = setting("a zone", default=None)
    agent_wait: str = setting("a time", default="1secs", aliases=("slave_wait",))
    leader: MasterAddress | None = setting("who leads", default=None)
    hooks: str = fixed("no hooks are loaded", default="")
    authenticate: bool = fixed("nobody is authenticated", default=False)
    strategy: str = fixed("only one is known", default="drf", also=("fair",))


LOADER = Loader(Example, program="example", about="An example.", environ_prefix="EXAMPLE")


def test_defaults_fill_what_nobody_gave() -> None:
    config = LOADER.load(["--ip", "127.0.0.1"], {})

    assert config == Example(ip=IPv4Address("127.0.0.1"))


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('ip = "10.0.0.1"\nport = 1\nzone = "file"\n')

    config = LOADER.load(
        ["--config", str(file), "--port", "3"],
        {"EXAMPLE_PORT": "2", "EXAMPLE_ZONE": "environment"},
    )

    assert (config.ip, config.port, config.zone) == (IPv4Address("10.0.0.1"), 3, "environment")


def test_flags_take_dashes_and_underscores() -> None:
    dashes = LOADER.load(["--ip=1.2.3.4", "--work-dir=/a"], {})
    underscores = LOADER.load(["--ip=1.2.3.4", "--work_dir=/a"], {})

    assert dashes == underscores


def test_lists_are_split_at_commas_or_come_as_toml_arrays(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('ip = "10.0.0.1"\nmasters = ["a:1", "b:2"]\n')

    assert LOADER.load(["--config", str(file)], {}).masters == (HostPort("a", 1), HostPort("b", 2))
    assert LOADER.load(["--ip=1.2.3.4", "--masters=a:1,b:2"], {}).masters == (
        HostPort("a", 1),
        HostPort("b", 2),
    )


def test_a_switch_needs_no_value() -> None:
    assert LOADER.load(["--ip=1.2.3.4", "--quiet"], {}).quiet
    assert not LOADER.load(["--ip=1.2.3.4", "--quiet=false"], {}).quiet


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        pytest.param([], {}, "--ip: is required", id="required"),
        pytest.param(["--ip", "x"], {}, "--ip: 'x'", id="address"),
        pytest.param(["--ip=1.2.3.4", "--port=many"], {}, "--port: 'many'", id="number"),
        pytest.param(
            ["--ip=1.2.3.4"], {"EXAMPLE_QUIET": "maybe"}, "EXAMPLE_QUIET: 'maybe'", id="environment"
        ),
        pytest.param(["--ip=1.2.3.4", "--masters=a"], {}, "'a' is not HOST:PORT", id="list"),
        pytest.param(["--config=/nowhere.toml"], {}, "--config: '/nowhere.toml'", id="no-file"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(
    arguments: list[str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        LOADER.load(arguments, environ)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("nosuch = 1\n", "nosuch: no such setting", id="unknown-key"),
        pytest.param("port = true\n", "port: True", id="wrong-type"),
        pytest.param("port = \n", "--config", id="no-toml"),
    ],
)
def test_a_bad_file_is_named_with_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=message):
        LOADER.load(["--config", str(file), "--ip=1.2.3.4"], {})


def test_check_config_ends_with_success_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        LOADER.load(["--ip=1.2.3.4", "--check-config"], {})

    assert ended.value.code == 0
    captured = capsys.readouterr()
    assert "configuration is good" in captured.out + captured.err


@pytest.mark.parametrize("spelled", ["--no-quiet", "--no_quiet", "--quiet=false", "--quiet=0"])
def test_a_switch_is_put_off_as_in_mesos(spelled: str) -> None:
    assert not LOADER.load(["--ip=1.2.3.4", "--quiet", spelled], {}).quiet


def test_a_file_stands_for_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("a:1,b:2\n")
    arguments = ["--ip=1.2.3.4", f"--masters=file://{file}", f"--work-dir=file://{file}"]

    config = LOADER.load(arguments, {"EXAMPLE_ZONE": f"file://{file}"})

    assert config.masters == (HostPort("a", 1), HostPort("b", 2))
    assert config.zone == "a:1,b:2"
    assert config.work_dir == file


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="--zone: 'file:///nowhere': can't be read"):
        LOADER.load(["--ip=1.2.3.4", "--zone=file:///nowhere"], {})


def test_old_names_work_as_flags_and_in_the_environment() -> None:
    assert LOADER.load(["--ip=1.2.3.4", "--slave_wait=2secs"], {}).agent_wait == "2secs"
    assert LOADER.load(["--ip=1.2.3.4"], {"EXAMPLE_SLAVE_WAIT": "3secs"}).agent_wait == "3secs"


def test_unknown_variables_are_ignored_and_unknown_flags_are_not() -> None:
    assert LOADER.load(["--ip=1.2.3.4"], {"EXAMPLE_NO_SUCH": "x"}).port == 5050
    with pytest.raises(SystemExit) as ended:
        LOADER.load(["--ip=1.2.3.4", "--no-such"], {})
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["--hooks=a"], {}, "--hooks: 'a': is refused: no hooks are loaded"),
        ([], {"EXAMPLE_HOOKS": "a"}, "EXAMPLE_HOOKS: 'a': is refused"),
        (["--authenticate"], {}, "--authenticate: 'true': is refused: nobody"),
        (["--strategy=random"], {}, "--strategy: 'random': is refused"),
    ],
    ids=["flag", "environment", "switch", "choice"],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    arguments: list[str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        LOADER.load(["--ip=1.2.3.4", *arguments], environ)


def test_the_harmless_values_of_such_flags_are_accepted() -> None:
    config = LOADER.load(
        ["--ip=1.2.3.4", "--hooks=", "--no-authenticate", "--strategy=fair"], {"EXAMPLE_HOOKS": ""}
    )

    assert (config.hooks, config.authenticate, config.strategy) == ("", False, "fair")


def test_settings_are_rendered_as_mesos_shows_flags() -> None:
    shown = rendered(LOADER.load(["--ip=1.2.3.4", "--masters=a:1,b:2", "--quiet"], {}))

    assert shown["quiet"] == "true"
    assert shown["masters"] == "a:1,b:2"
    assert shown["work_dir"] == "/var/lib/x"
    assert "zone" not in shown
    assert "hooks" not in shown


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    loader = Loader(Example, program="x", about="", environ_prefix="X", version="x 1.0")

    with pytest.raises(SystemExit) as ended:
        loader.load(["--version"], {})

    assert ended.value.code == 0
    assert capsys.readouterr().out == "x 1.0\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("zk://a:1,b:2/mesos", ZooKeeperAddress("a:1,b:2", "/mesos")),
        ("zk://u:p@a/x/y/", ZooKeeperAddress("a", "/x/y", "u:p")),
    ],
)
def test_zookeeper_address_is_taken_apart(text: str, address: ZooKeeperAddress) -> None:
    assert ZooKeeperAddress.parse(text) == address
    assert MasterAddress.parse(text) == MasterAddress(zookeeper=address)


@pytest.mark.parametrize(
    "text", ["a:1/mesos", "zk://a:1", "zk:///mesos", "zk://a/x//y", "zk://u@a/x", "zk://a,/x"]
)
def test_what_is_no_zookeeper_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not zk://"):
        ZooKeeperAddress.parse(text)


def test_passwords_are_not_shown() -> None:
    assert str(ZooKeeperAddress.parse("zk://u:secret@a/x")) == "zk://u:***@a/x"
    with pytest.raises(ConfigError) as refused:
        LOADER.load(["--ip=1.2.3.4", "--leader=zk://u:secret@a"], {})
    assert "secret" not in str(refused.value)


def test_an_empty_value_of_what_may_be_left_out_is_none() -> None:
    assert LOADER.load(["--ip=1.2.3.4"], {"EXAMPLE_LEADER": ""}).leader is None
