"""phalanx-loopback: a container's lo, up."""

from phalanx.cni.results import objects
from phalanx.cni.skeleton import BAD_NETNS, DIFFERS, Call, Json, Plugin, Refusal
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.route import find
from phalanx.net.netlink.wire import Conversation, enter


class Loopback(Plugin):
    """The main plugin."""

    about = "phalanx-loopback: sets a container's loopback link up"

    def add(self, call: Call) -> Json:
        """Set lo up and tell its addresses."""
        inside = _inside(call)
        link = _set(inside, is_up=True)
        if call.previous is not None:
            return call.previous
        ips: list[Json] = [
            {"interface": 0, "address": f"{nl.address_text(packed)}/{length}"}
            for packed, length in nl.addresses(inside, link.index)
        ]
        mac = link.mac or "00:00:00:00:00:00"
        result: Json = {"interfaces": [{"name": "lo", "mac": mac, "sandbox": call.netns}]}
        return {**result, "ips": ips}

    def delete(self, call: Call) -> None:
        """Set lo down, if there is still a namespace."""
        try:
            inside = _inside(call)
        except Refusal:
            return
        _set(inside, is_up=False)

    def check(self, call: Call) -> None:
        """Look whether lo is up."""
        link = find(_inside(call), "lo")
        if link is None or not link.flags & nl.UP:
            raise Refusal(DIFFERS, f"{call.container}: lo is down")
        objects(call.previous or {}, "interfaces")


def _inside(call: Call) -> Conversation:
    netns = call.open_netns()
    try:
        enter(netns)
    except OSError as error:
        raise Refusal(BAD_NETNS, f"CNI_NETNS: {error.strerror}") from error
    return Conversation()


def _set(inside: Conversation, *, is_up: bool) -> nl.Link:
    link = find(inside, "lo")
    if link is None:
        raise Refusal(DIFFERS, "lo is missing")
    flags = nl.UP if is_up else 0
    inside.change(nl.link(nl.NEWLINK, index=link.index, flags=flags, change=nl.UP), "lo")
    return link
