"""An address is here where a socket can be bound to it."""

from ipaddress import ip_address

import pytest

from phalanx.net.address.here import is_here


@pytest.mark.parametrize(
    ("address", "expected"), [("127.0.0.1", True), ("203.0.113.7", False), ("2001:db8::1", False)]
)
def test_addresses_of_the_machine_are_here(address: str, expected: bool) -> None:
    assert is_here(ip_address(address)) is expected
