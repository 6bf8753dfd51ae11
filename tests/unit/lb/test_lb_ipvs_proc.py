"""The kernel's listing of IPVS, as it prints it (net/netfilter/ipvs/ip_vs_ctl.c)."""

from ipaddress import ip_address

import pytest

from phalanx.lb.ipvs.message import Destination
from phalanx.lb.ipvs.proc import parse_table
from phalanx.lb.service import Backend, Vip
from phalanx.net.model.objects import Protocol

LISTING = b"""\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0B000001:0050 wlc  persistent 300 FFFFFFFF
  -> 0900010B:1F90      Masq    1      2          3         
  -> 0900010C:1F90      Route   0      0          0         
FWM  00000007 rr 
  -> 0900010D:1F90      Masq    1      0          0         
UDP  0B000002:0035 rr ops 
TCP  [fd01:000c:0000:0000:0000:0000:0000:0001]:0050 mh 
  -> [fd00:0009:0001:0000:0000:0000:0000:0011]:1F90      Masq    65535  0          0         
"""  # noqa: W291 - the kernel pads its lines


def test_table_is_read_as_the_kernel_prints_it() -> None:
    found = parse_table(LISTING)

    assert found == {
        Vip(ip_address("11.0.0.1"), 80): [
            Destination(Backend(ip_address("9.0.1.11"), 8080), is_plain=True, active=2, inactive=3),
            Destination(Backend(ip_address("9.0.1.12"), 8080, 0), is_plain=False),
        ],
        Vip(ip_address("11.0.0.2"), 53, Protocol.UDP): [],
        Vip(ip_address("fd01:c::1"), 80): [
            Destination(Backend(ip_address("fd00:9:1::11"), 8080, 65535), is_plain=True)
        ],
    }


@pytest.mark.parametrize("text", [b"TCP\n", b"TCP  0B000001 wlc\n", b"TCP  x:0050 wlc \n"])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_table(text)


def test_nothing_is_no_table() -> None:
    assert parse_table(b"") == {}
