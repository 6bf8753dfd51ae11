"""Settings come from flags, environment, file and defaults, and say what is wrong with them."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from phalanx.core.config import HostPort, Loader, setting
from phalanx.core.error import ConfigError


@dataclass(frozen=True, slots=True)
class Example:
    ip: IPv4Address = setting("address to listen on")
    port: int = setting("port to listen on", default=5050)
    work_dir: Path = setting("where to keep files", default=Path("/var/lib/x"))
    masters: tuple[HostPort, ...] = setting("where masters are", default=())
    quiet: bool = setting("say less", default=False)
    zone: str | None = setting("a zone", default=None)


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
