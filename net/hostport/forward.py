"""Ways through a host whose iptables drop what is forwarded, as Docker has them do.

An accept in a table of ours decides nothing there: every table is asked. So
two rules for each bridge go into the host's own chain, in a chain named
after us, as the reference plugin ``firewall`` does.
"""

import posix
from _struct import pack
from fcntl import LOCK_EX, flock

from phalanx.net.hostport.exec import program, talk
from phalanx.net.netlink import file
from phalanx.net.netlink import route as nl
from phalanx.net.netlink.wire import NETFILTER, Conversation, Message, attributes, text

CHAIN = "PHALANX-CNI"  # listed in docs/reference/marks.md
GETCHAIN, GETRULE = (10 << 8) + 4, (10 << 8) + 7
TABLE, NAME, HOOK, POLICY, USE = 1, 3, 4, 5, 6  # NFTA_CHAIN_*
HOOK_FORWARD = 2
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
DROP = 0
TOOLS = {2: "iptables", 10: "ip6tables"}  # by family
LEGACY = {2: "/proc/net/ip_tables_names", 10: "/proc/net/ip6_tables_names"}
LOCK = "/run/phalanx/cni/.forward"


def accept(bridge: str, families: set[int]) -> None:
    """Let connections from a bridge pass, and their answers and mapped ports to it.

    Where nothing can be dropped nothing is done. Raises OSError when a rule is refused.
    Whoever asks has put his link on the bridge already, so nobody takes the rules away again.
    """
    wanted = [each for each in sorted(families) if may_drop(each)]
    if not wanted:
        return
    file.make_folders(LOCK.rpartition("/")[0])
    lock = file.lock_file(LOCK)
    try:
        flock(lock, LOCK_EX)  # or two plugins would add each rule twice, or one take them away
        for family in wanted:
            if not _stands(family, bridge):
                _accept(TOOLS[family], bridge)
    finally:
        posix.close(lock)


def withdraw(bridge: str) -> None:
    """Take the way of a bridge away that has no port; raise OSError when it stays.

    With the last one the chain goes.
    """
    if not any(_has_way(family, bridge) for family in TOOLS):
        return
    lock = file.lock_file(LOCK)
    try:
        flock(lock, LOCK_EX)
        if _has_port(bridge):
            return
        for family in TOOLS:
            if _has_way(family, bridge):
                _withdraw(TOOLS[family], bridge)
    finally:
        posix.close(lock)


def _has_port(bridge: str) -> bool:
    conversation = Conversation()
    try:
        link = nl.find(conversation, bridge)
        return link is not None and any(
            each.master == link.index for each in nl.links(conversation)
        )
    finally:
        conversation.close()


def _has_way(family: int, bridge: str) -> bool:
    conversation = Conversation(NETFILTER)
    try:
        return _rules_with(conversation, family, CHAIN, bridge) > 0
    except OSError:
        return _is_legacy(family) and any(_has(TOOLS[family], *rule) for rule in _rules(bridge))
    finally:
        conversation.close()


def _withdraw(tool: str, bridge: str) -> None:
    for rule in _rules(bridge):
        if _has(tool, *rule) and (status := _run(tool, "-D", *rule)):
            raise OSError(22, f"{tool} -D {' '.join(rule)}: status {status}")
    path = program(tool)
    listed, _ = talk(path, [tool, "-w", "-S", CHAIN], {}, b"", quiet=True)
    if b"-A " not in listed:
        _run(tool, "-D", *_jump())
        _run(tool, "-X", CHAIN)


def missing(bridge: str, families: set[int]) -> list[str]:
    """Say which rules are not there though something is dropped."""
    return [
        f"{TOOLS[family]}: no way through FORWARD for {bridge}"
        for family in sorted(families)
        if may_drop(family) and not _stands(family, bridge)
    ]


def may_drop(family: int) -> bool:
    """Tell whether the host's chain FORWARD drops anything, or has rules that may."""
    conversation = Conversation(NETFILTER)
    try:
        head = pack("=BBH", family, 0, 0)
        question = Message(GETCHAIN, 0, head + text(1, "filter") + text(3, "FORWARD"))
        chain = attributes(conversation.ask(question), 4)
    except OSError:
        return _is_legacy(family)
    finally:
        conversation.close()
    numbers = {key: int.from_bytes(chain[key]) for key in (POLICY, USE) if key in chain}
    return numbers.get(POLICY, 1) == DROP or numbers.get(USE, 0) > 0


def droppers() -> list[str]:
    """Return the host's own nftables chains that drop what they don't know of what is forwarded.

    No rule of ours can open them: each table decides for itself. Named as
    ``family table chain``.
    """
    conversation = Conversation(NETFILTER)
    try:
        payloads = conversation.dump(GETCHAIN, pack("=BBH", 0, 0, 0))
    except OSError:
        return []
    finally:
        conversation.close()
    found = []
    for payload in payloads:
        chain = attributes(payload, 4)
        hook = attributes(chain.get(HOOK, b""))
        table, name = (chain.get(key, b"").rstrip(b"\0").decode() for key in (TABLE, NAME))
        family = FAMILIES.get(payload[0], "")
        is_forward = hook.get(1) == pack("!I", HOOK_FORWARD)
        is_drop = chain.get(POLICY) == pack("!I", DROP)
        if family and is_forward and is_drop and (table, name) != ("filter", "FORWARD"):
            found.append(f"{family} {table} {name}")
    return sorted(found)


def _stands(family: int, bridge: str) -> bool:
    """Tell whether all rules are there.

    The kernel is asked, which takes a hundredth of starting iptables; of a rule
    it tells the name of a link, or of a chain, as it was written.
    """
    conversation = Conversation(NETFILTER)
    try:
        ways = _rules_with(conversation, family, CHAIN, bridge)
        jumps = _rules_with(conversation, family, "FORWARD", CHAIN)
    except OSError:  # no such chain; or a kernel that iptables speaks to in its old way
        tool = TOOLS[family]
        return _is_legacy(family) and all(_has(tool, *rule) for rule in (*_rules(bridge), _jump()))
    finally:
        conversation.close()
    return ways >= len(_rules(bridge)) and jumps >= 1


def _rules_with(conversation: Conversation, family: int, chain: str, word: str) -> int:
    head = pack("=BBH", family, 0, 0) + text(1, "filter") + text(2, chain)
    found = conversation.dump(GETRULE, head)
    return sum(word.encode() + b"\0" in payload for payload in found)


def _is_legacy(family: int) -> bool:
    try:
        return b"filter" in file.read(LEGACY[family]).split()
    except OSError:
        return False


def _accept(tool: str, bridge: str) -> None:
    absent = [rule for rule in _rules(bridge) if not _has(tool, *rule)]
    if absent:
        _run(tool, "-N", CHAIN)  # it may be there
    for rule in absent:
        if status := _run(tool, "-A", *rule):
            raise OSError(22, f"{tool} -A {' '.join(rule)}: status {status}")
    if not _has(tool, *_jump()) and (status := _run(tool, "-I", *_jump())):
        raise OSError(22, f"{tool} -I {' '.join(_jump())}: status {status}")


def _rules(bridge: str) -> list[tuple[str, ...]]:
    states = "RELATED,ESTABLISHED,DNAT"
    return [
        (CHAIN, "-i", bridge, "-j", "ACCEPT"),
        (CHAIN, "-o", bridge, "-m", "conntrack", "--ctstate", states, "-j", "ACCEPT"),
    ]


def _jump() -> tuple[str, ...]:
    return ("FORWARD", "-j", CHAIN)


def _has(tool: str, *rule: str) -> bool:
    return _run(tool, "-C", *rule) == 0


def _run(tool: str, *arguments: str) -> int:
    """Run iptables, its words thrown away; return its exit status."""
    path = program(tool)
    return talk(path, [tool, "-w", *arguments], {}, b"", quiet=True)[1] if path else 127
