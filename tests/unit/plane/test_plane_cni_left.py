"""What a plane leaves for plugins that find it gone."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from phalanx.core.config import HostPort
from phalanx.net.attachment.bridge import leased_networks
from phalanx.net.attachment.standin import (
    StandIn,
    decode_stand_in,
    encode_stand_in,
    load_stand_in,
    standing_in,
)
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.cni.left import LeftBehind
from phalanx.plane.config import PlaneConfig

NODE = IPv4Address("198.18.0.2")
MASTER = HostPort("198.18.0.1", 5050)
BOTH = View().changed(
    [
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        Network("six", None, 0, 1025, 1430, True, IPv6Network("fd01:b::/64"), 80),
        SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
        SubnetLease("six", NODE, None, IPv6Network("fd01:b:0:0:1::/80")),
        SubnetLease("dcos", IPv4Address("198.18.0.3"), IPv4Network("9.0.2.0/24")),
    ]
)


def config(tmp_path: Path, *, serves: bool = True) -> PlaneConfig:
    return PlaneConfig(
        ip=NODE,
        source=(MASTER,),
        cni_socket=tmp_path / "run" / "cni.sock",
        cni_config_dir=tmp_path / "net.d" if serves else None,
        state_dir=tmp_path / "state",
    )


def test_networks_are_read_as_they_were_left(tmp_path: Path) -> None:
    settings = config(tmp_path)
    LeftBehind(settings).save(BOTH)

    found = load_stand_in(settings.cni_socket)

    assert found is not None
    assert found.networks == leased_networks(BOTH, node=NODE)
    assert found.networks.keys() == {"dcos", "six"}
    assert found.leases == str(tmp_path / "state" / "ipam")
    path = settings.cni_socket.with_name("cni.sock.json")
    assert path.stat().st_mode & 0o777 == 0o600


def test_network_that_is_gone_is_not_left(tmp_path: Path) -> None:
    settings = config(tmp_path)
    left = LeftBehind(settings)
    left.save(BOTH)

    left.save(View().changed([Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)]))

    assert load_stand_in(settings.cni_socket) == StandIn(
        str(tmp_path / "state" / "ipam"), "phalanx_isolation"
    )


def test_plane_without_cni_leaves_nothing(tmp_path: Path) -> None:
    LeftBehind(config(tmp_path, serves=False)).save(BOTH)

    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    settings = config(tmp_path)
    left = LeftBehind(settings)
    (tmp_path / "run").write_text("a file is in the way")
    left.save(BOTH)
    (tmp_path / "run").unlink()

    left.save(BOTH)

    assert load_stand_in(settings.cni_socket) is not None


def test_sweep_waits_for_those_who_stand_in(tmp_path: Path) -> None:
    settings, swept = config(tmp_path), []
    with ThreadPoolExecutor(1) as thread:
        with standing_in(settings.cni_socket), standing_in(settings.cni_socket):
            sweep = thread.submit(LeftBehind(settings).alone(lambda: swept.append(1)))
            with pytest.raises(TimeoutError):
                sweep.result(timeout=0.2)
            assert swept == []
        sweep.result(timeout=60)

    assert swept == [1]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"leases": "/x", "walls": "y", "networks": [{}]}', '{"networks": 7}'],
)
def test_what_is_torn_is_nothing(text: str) -> None:
    assert decode_stand_in(text) is None
    assert decode_stand_in(encode_stand_in(StandIn("/x", "y"))) == StandIn("/x", "y")
