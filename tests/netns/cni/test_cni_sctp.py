"""A port of SCTP leads to a container, with crafted packets: most kernels lack its sockets."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet
from tests.netns.cni.host import Host, Json
from tests.netns.cni.test_cni_chain import chain, client

from phalanx.core.netns import call_in

ETH_P_IP = 0x0800
SCTP_PROTOCOL = 132


@contextmanager
def wire(host: Host, ns: str) -> Iterator[tuple[Callable[[Packet], None], Callable[[], Packet]]]:
    """Yield what sends out of eth0 of a namespace, and what returns the next SCTP packet there."""
    [link] = json.loads(host.run("ip", "-j", "link", "show", "eth0", ns=ns))
    [route] = json.loads(host.run("ip", "-j", "route", "get", "198.18.0.1", ns=ns))
    gateway = route.get("gateway", "198.18.0.1")
    host.run("ping", "-c1", "-w10", gateway, ns=ns)
    [near] = json.loads(host.run("ip", "-j", "neigh", "show", gateway, ns=ns))

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        made.bind(("eth0", ETH_P_IP))
        return made

    with ExitStack() as stack:
        raw: socket.socket = stack.enter_context(call_in(Path("/run/netns", ns), make))
        raw.settimeout(5)

        def send(packet: Packet) -> None:
            raw.send(bytes(Ether(src=link["address"], dst=near["lladdr"]) / packet))

        def receive() -> Packet:
            while True:
                frame, address = raw.recvfrom(2048)
                packet: Packet = Ether(frame)[IP]
                if packet.proto == SCTP_PROTOCOL and address[2] != socket.PACKET_OUTGOING:
                    return packet

        yield send, receive


def has_right_checksum(packet: Packet) -> bool:
    """Tell whether the CRC32c in the packet is the one of its content."""
    again = IP(bytes(packet))
    del again[SCTP].chksum
    return bool(IP(bytes(again))[SCTP].chksum == packet[SCTP].chksum)


def test_question_and_answer_of_sctp_pass_a_mapped_port(host: Host) -> None:
    outside, ns = client(host), host.netns()
    mapping: Json = {"hostPort": 3868, "containerPort": 80, "protocol": "sctp"}
    plugins = chain(host, six="", runtimeConfig={"portMappings": [mapping]})
    result = host.chain("ADD", plugins, ns)

    with wire(host, outside) as (ask, answered), wire(host, ns) as (answer, asked):
        init = SCTP(sport=5000, dport=3868) / SCTPChunkInit(init_tag=7)
        ask(IP(src="198.18.0.2", dst="198.18.0.1") / init)
        question = asked()
        assert (question.src, question.dst) == ("198.18.0.2", "10.71.0.2")
        assert (question[SCTP].sport, question[SCTP].dport) == (5000, 80)
        assert has_right_checksum(question)

        ack = SCTP(sport=80, dport=5000, tag=7) / SCTPChunkInitAck(init_tag=9)
        answer(IP(src="10.71.0.2", dst="198.18.0.2") / ack)
        reply = answered()
        assert (reply.src, reply[SCTP].sport, reply[SCTP].dport) == ("198.18.0.1", 3868, 5000)
        assert has_right_checksum(reply)

        host.chain("DEL", plugins, ns, previous=result)
        assert host.elements() == []
