"""Conditions of mapped ports: for each set of them maps and chains of its own.

A packet that no condition concerns meets the constant rules alone. Those of a
condition come before them, and go with the last port that is mapped under it.
"""

from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL

from phalanx.net.hostport.exec import program, talk
from phalanx.net.hostport.layout import SELF, TABLE

TYPE_CHECKING = False  # typing takes longer to load than a condition to make
if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSLATORS = {4: "iptables-translate", 6: "ip6tables-translate"}
ACCEPT = " counter accept"  # what a translation ends with
UNWANTED = "\n\r\0;#"  # would end the rule, or hide the rest of it


class Condition:
    """What a packet of one family has to match beside a mapped port's address and number.

    *words* are matches of nftables; or of iptables, when one is ! or begins with -.
    """

    __slots__ = ("family", "tag", "words")

    def __init__(self, family: int, words: "Sequence[str]") -> None:
        """Raise ValueError for words that can't be part of a rule."""
        if any(letter in word for word in words for letter in UNWANTED):
            raise ValueError(f"conditionsV{family}: {list(words)!r} can't be in a rule")
        self.family = family  # 4 or 6
        self.words = list(words)
        self.tag = sha1("\0".join(words).encode()).hexdigest()[:8]

    @property
    def sets(self) -> list[str]:
        """Return the names of the maps."""
        return [f"{kind}{self.family}_{self.tag}" for kind in ("own", "any")]

    def matches(self) -> str:
        """Return the words in the language of nftables; raise ValueError if they have no form."""
        if not any(word == "!" or word[:1] == "-" for word in self.words):
            return " ".join(self.words)
        name = TRANSLATORS[self.family]
        path = program(name)
        if not path:
            raise ValueError(f"conditionsV{self.family}: words of iptables need {name}")
        arguments = [name, "-t", "nat", "-A", "PREROUTING", *self.words, "-j", "ACCEPT"]
        output, status = talk(path, arguments, {}, b"", with_errors=True)
        said = output.decode(errors="replace").strip()
        head, _, rule = said.partition(" PREROUTING ")
        rule = rule.rstrip("'")
        if status or not head.endswith("nat") or "#" in head or not rule.endswith(ACCEPT):
            raise ValueError(
                f"conditionsV{self.family}: {self.words!r} has no form in nftables: {said}"
            )
        return rule[: -len(ACCEPT)]

    def script(self) -> str:
        """Return what makes maps and chains, for nft; raise ValueError as `matches`."""
        family, tag, matches = self.family, self.tag, self.matches()
        word, kind = ("ip", "ipv4_addr") if family == 4 else ("ip6", "ipv6_addr")
        own, any_ = self.sets
        first = f"meta nfproto ipv{family} {matches} dnat {word} to"
        return f"""
table inet {TABLE} {{
  map {own} {{ type {kind} . inet_proto . inet_service : {kind} . inet_service; }}
  map {any_} {{ type inet_proto . inet_service : {kind} . inet_service; }}
  chain translate{family}_{tag} {{
    {first} {word} daddr . meta l4proto . th dport map @{own}
    {first} meta l4proto . th dport map @{any_}
  }}
  chain prerouting{family}_{tag} {{
    type nat hook prerouting priority dstnat - 1; policy accept;
    fib daddr type local jump translate{family}_{tag}
  }}
  chain output{family}_{tag} {{
    type nat hook output priority -101; policy accept;
    {SELF} return
    fib daddr type local jump translate{family}_{tag}
  }}
}}
"""


def removal(set_name: str) -> str:
    """Return what removes all that goes with a map of a condition, for nft."""
    variant = set_name[3:]  # family and tag
    chains = [f"{name}{variant}" for name in ("prerouting", "output", "translate")]
    lines = [f"flush chain inet {TABLE} {chain}" for chain in chains]
    lines += [f"delete chain inet {TABLE} {chain}" for chain in chains]
    lines += [f"delete map inet {TABLE} {kind}{variant}" for kind in ("own", "any")]
    return "\n".join(lines) + "\n"
