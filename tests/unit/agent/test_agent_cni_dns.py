"""Name servers where plugins name none."""

import json
from typing import Any

import pytest

from phalanx.agent.cni.dns import completed, parse_defaults
from phalanx.agent.cni.result import Attached, Dns
from phalanx.core.error import ConfigError


def entry(*servers: str, **more: Any) -> dict[str, Any]:
    return {"network_mode": "CNI", "dns": {"nameservers": list(servers)}, **more}


DEFAULTS = parse_defaults(
    json.dumps({"mesos": [entry("9.9.9.1"), entry("9.9.9.2", network_name="blue")]})
)


@pytest.mark.parametrize(
    ("network", "own", "servers"),
    [("blue", (), ("9.9.9.2",)), ("red", (), ("9.9.9.1",)), ("blue", ("1.1.1.1",), ("1.1.1.1",))],
    ids=["its-networks", "everyones", "its-own"],
)
def test_nearest_name_servers_win(
    network: str, own: tuple[str, ...], servers: tuple[str, ...]
) -> None:
    result = Attached(("9.0.1.2",), Dns(nameservers=own))

    assert completed(network, result, DEFAULTS) == Attached(("9.0.1.2",), Dns(nameservers=servers))


def test_nothing_given_changes_nothing() -> None:
    result = Attached(("9.0.1.2",))

    assert completed("blue", result, parse_defaults("")) is result


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "not JSON"),
        ([], "not an object"),
        ({"mesos": {}}, "not a list"),
        ({"mesos": [{"network_mode": "HOST"}]}, "'HOST'"),
        ({"mesos": [{"network_mode": "CNI"}]}, "dns: None"),
        ({"mesos": [entry("a"), entry("b")]}, "twice"),
        ({"mesos": [{"network_mode": "CNI", "dns": {"search": "x"}}]}, "dns.search"),
        ({"mesos": [{"network_mode": "CNI", "dns": {"domain": 1}}]}, "dns.domain"),
    ],
)
def test_bad_value_is_named(value: object, words: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)

    with pytest.raises(ConfigError, match=f"--default-container-dns.*{words}"):
        parse_defaults(text)
