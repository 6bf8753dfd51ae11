"""Secrets and privileges: what a container is given, and what is refused; tables."""

from pathlib import Path
from typing import Any

import pytest

from phalanx.agent.bundle.privilege import (
    COMMON,
    Granted,
    capabilities,
    oom_score,
    rlimits,
    seccomp,
)
from phalanx.agent.bundle.secret import Secrets
from phalanx.agent.container.traffic import summed
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import CommandInfo, LinuxInfo, RLimitInfo, Secret


def reference(name: str, key: str | None = None) -> Secret:
    return from_json(Secret, {"type": "REFERENCE", "reference": {"name": name, "key": key}})


def test_a_secret_is_given_by_value_or_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "password").write_bytes(b"sesame")
    secrets = Secrets(tmp_path)

    assert secrets.resolve(reference("db", "password")) == b"sesame"
    by_value = from_json(Secret, {"type": "VALUE", "value": {"data": "aGVsbG8="}})
    assert secrets.resolve(by_value) == b"hello"


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        pytest.param(reference("nothing"), "'nothing': No such file", id="missing"),
        pytest.param(reference("../up"), "is not allowed", id="above"),
        pytest.param(reference("/etc/shadow"), "is not allowed", id="absolute"),
        pytest.param(Secret(), "neither value nor reference", id="empty"),
    ],
)
def test_a_secret_that_is_not_there_is_named(tmp_path: Path, secret: Secret, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        Secrets(tmp_path).resolve(secret)


def test_without_a_directory_no_reference_is_looked_up() -> None:
    with pytest.raises(ContainerError, match="--secrets-dir"):
        Secrets().resolve(reference("x"))


def command(*variables: dict[str, Any]) -> CommandInfo:
    return from_json(CommandInfo, {"environment": {"variables": list(variables)}})


def test_secret_variables_become_what_they_stand_for() -> None:
    secret = {"type": "VALUE", "value": {"data": "aGVsbG8="}}
    given = command(
        {"name": "A", "value": "plain"}, {"name": "B", "type": "SECRET", "secret": secret}
    )

    assert Secrets().variables(given) == {"A": "plain", "B": "hello"}
    assert Secrets().variables(None) == {}


@pytest.mark.parametrize("data", ["/w==", "YQBi"])
def test_what_can_not_be_a_variable_is_refused_without_being_told(data: str) -> None:
    secret = {"type": "VALUE", "value": {"data": data}}

    with pytest.raises(ContainerError) as failure:
        Secrets().variables(command({"name": "B", "type": "SECRET", "secret": secret}))

    assert data not in str(failure.value)
    assert "'B'" in str(failure.value)


def linux(**named: list[str]) -> LinuxInfo:
    sets = {f"{kind}_capabilities": {"capabilities": names} for kind, names in named.items()}
    return from_json(LinuxInfo, sets)


@pytest.mark.parametrize(
    ("asked", "granted", "effective", "bounding"),
    [
        pytest.param(None, Granted(), set(COMMON), set(COMMON), id="common"),
        pytest.param(
            linux(effective=["NET_ADMIN"]),
            Granted(),
            {"CAP_NET_ADMIN"},
            {"CAP_NET_ADMIN"},
            id="asked",
        ),
        pytest.param(
            linux(bounding=["CHOWN"]), Granted(), {"CAP_CHOWN"}, {"CAP_CHOWN"}, id="bounding"
        ),
        pytest.param(
            None,
            Granted(bounding=("CAP_CHOWN", "CAP_SYS_ADMIN")),
            {"CAP_CHOWN"},
            {"CAP_CHOWN", "CAP_SYS_ADMIN"},
            id="operators-bounds",
        ),
        pytest.param(
            None,
            Granted(effective=("CAP_KILL",), bounding=("CAP_KILL",)),
            {"CAP_KILL"},
            {"CAP_KILL"},
            id="operators-default",
        ),
    ],
)
def test_capabilities_are_asked_for_or_granted(
    asked: LinuxInfo | None, granted: Granted, effective: set[str], bounding: set[str]
) -> None:
    found = capabilities(asked, granted, 0)

    assert set(found["effective"]) == effective
    assert set(found["bounding"]) == bounding
    assert "ambient" not in found


def test_who_is_not_root_keeps_what_was_asked_for_by_name() -> None:
    assert capabilities(linux(effective=["KILL"]), Granted(), 7)["ambient"] == ["CAP_KILL"]
    assert "ambient" not in capabilities(None, Granted(), 7)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (linux(bounding=["SYS_ADMIN"]), "Bounding capabilities CAP_SYS_ADMIN"),
        (linux(effective=["SYS_ADMIN"]), "Effective capabilities CAP_SYS_ADMIN"),
    ],
)
def test_nobody_gets_more_than_the_operator_grants(asked: LinuxInfo, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        capabilities(asked, Granted(bounding=("CAP_KILL",)), 0)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"type": "RLMT_CPU", "soft": 1}, "needs both"),
        ({"type": "RLMT_CPU", "soft": 2, "hard": 1}, "soft is more than hard"),
        ({"soft": 2, "hard": 1}, "type: is unknown"),
    ],
)
def test_a_bad_limit_of_a_process_is_refused(limit: dict[str, Any], words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        rlimits(from_json(RLimitInfo, {"rlimits": [limit]}))


@pytest.mark.parametrize(
    ("request_bytes", "limit_bytes", "score"),
    [(100, 100, 0), (100, 200, 900), (100, None, 900), (1, 10**6, 999), (1000, None, 2)],
)
def test_who_takes_more_than_he_asked_for_is_likelier_to_die(
    request_bytes: float, limit_bytes: float | None, score: int
) -> None:
    assert oom_score(request_bytes, limit_bytes, 1000) == score


def test_the_conditions_of_a_seccomp_profile_are_decided() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["mount"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {
                "names": ["chroot"],
                "action": "SCMP_ACT_ALLOW",
                "excludes": {"caps": ["CAP_SYS_CHROOT"]},
            },
            {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
        ],
    }

    found = seccomp(profile, "SCMP_ARCH_X86_64", ["CAP_KILL"])

    assert [call["names"] for call in found["syscalls"]] == [["read"], ["chroot"]]
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]


def test_traffic_is_that_of_all_interfaces_but_the_loopback() -> None:
    table = """Inter-|   Receive  |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop
    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0
  eth0: 100 2 1 3 0 0 0 0 50 4 0 1 0 0 0 0
  eth1: 1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0
"""

    found = summed(table)

    assert (found["net_rx_bytes"], found["net_rx_packets"], found["net_rx_dropped"]) == (101, 3, 3)
    assert (found["net_tx_bytes"], found["net_tx_packets"], found["net_tx_dropped"]) == (52, 6, 1)
