"""Who may ask, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import ConfigError
from phalanx.dns.admission import (
    MAX_COUNTED,
    Admission,
    Verdict,
    packed_address,
    parse_networks,
)

NETWORKS = parse_networks("dns-allow", ["9.0.0.0/8", "fd01:b::/32", "192.0.2.1"])


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("9.1.2.3", Verdict.ADMIT),
        ("192.0.2.1", Verdict.ADMIT),
        ("::ffff:9.1.2.3", Verdict.ADMIT),
        ("fd01:b::1", Verdict.ADMIT),
        ("192.0.2.2", Verdict.REFUSE),
        ("fe80::1%eth0", Verdict.REFUSE),
    ],
)
def test_only_clients_of_the_networks_may_ask(client: str, expected: Verdict) -> None:
    admission = Admission(allowed=NETWORKS)

    assert [admission.verdict(packed_address(client), 0.0) for _ in range(2)] == [expected] * 2


def test_client_without_an_address_is_an_outsider() -> None:
    assert Admission(allowed=NETWORKS).verdict(b"", 0.0) is Verdict.REFUSE


def test_nobody_may_have_a_zone_by_default() -> None:
    assert not Admission().may_transfer(packed_address("127.0.0.1"))
    assert Admission(transfers=NETWORKS).may_transfer(packed_address("9.1.2.3"))


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.floats(0, 3)), max_size=60),
    st.integers(1, 5),
)
def test_no_client_is_admitted_more_often_than_agreed(
    asked: list[tuple[bytes, float]], limit: int
) -> None:
    admission = Admission(per_second=limit)
    found: dict[tuple[bytes, int], list[Verdict]] = {}
    for client, at in sorted(asked, key=lambda each: each[1]):
        found.setdefault((client, int(at)), []).append(admission.verdict(client, at))

    wanted = [Verdict.ADMIT] * limit + [Verdict.CUT] * limit + [Verdict.DROP] * 60
    assert all(verdicts == wanted[: len(verdicts)] for verdicts in found.values())


@pytest.mark.parametrize("text", ["x", "10.0.0.1/8", "10.0.0.0/33"])
def test_network_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--dns-allow: '{text}'"):
        parse_networks("dns-allow", [text])


def test_flood_of_made_up_addresses_is_counted_in_bounded_memory() -> None:
    admission = Admission(per_second=2)
    known = b"known"
    assert admission.verdict(known, 5.0) is Verdict.ADMIT

    flood = [admission.verdict(n.to_bytes(4, "big"), 5.1) for n in range(MAX_COUNTED + 1000)]

    assert len(admission._counts) == MAX_COUNTED
    assert flood.count(Verdict.ADMIT) == MAX_COUNTED - 1
    assert set(flood[MAX_COUNTED:]) == {Verdict.CUT}
    now = [admission.verdict(known, 5.2) for _ in range(4)]
    assert now == [Verdict.ADMIT, Verdict.CUT, Verdict.CUT, Verdict.DROP]
    assert admission.verdict(b"newcomer", 6.0) is Verdict.ADMIT
