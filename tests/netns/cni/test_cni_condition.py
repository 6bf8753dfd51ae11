"""Conditions of mapped ports, in either language, with packets and with the reference plugin."""

from typing import Any

import pytest
from tests.netns.cni.host import Host
from tests.netns.cni.test_cni_chain import WEB, ask, chain, client, is_shut, listen, ports

FAR, NEAR = "198.18.0.2", "198.18.0.1"
SHUT = {
    "iptables": {
        "conditionsV4": ["!", "-s", f"{FAR}/32"],
        "conditionsV6": ["!", "-s", "fd00:18::2/128"],
    },
    "nftables": {
        "conditionsV4": ["ip", "saddr", "!=", FAR],
        "conditionsV6": ["ip6 saddr != fd00:18::2"],
    },
}
OPEN = {
    "conditionsV4": ["-s", "198.18.0.0/24", "-i", "out"],
    "conditionsV6": ["-s", "fd00:18::/64"],
}


def chains(host: Host) -> list[str]:
    return [
        line.split()[1]
        for line in host.run("nft", "list", "ruleset").splitlines()
        if line.split()[:1] in (["chain"], ["map"]) and "_" in line.split()[1]
    ]


@pytest.mark.parametrize("form", ["in one", "chained"])
@pytest.mark.parametrize("language", SHUT)
def test_condition_decides_who_is_led_to_a_container(host: Host, language: str, form: str) -> None:
    outside, ns = client(host), host.netns()
    listen(host, ns)
    options: dict[str, Any] = {**ports(WEB), **SHUT[language]}
    more = [{"type": "phalanx-portmap", **options}] if form == "chained" else []
    plugins = chain(host, *more, hairpinMode=True, **({} if more else options))

    result = host.chain("ADD", plugins, ns)

    assert is_shut(host, outside, NEAR)
    assert ask(host, host.ns, NEAR) == NEAR
    host.chain("CHECK", plugins, ns, previous=result)
    host.chain("DEL", plugins, ns, previous=result)
    assert chains(host) == []
    assert host.elements() == []


def test_condition_that_holds_lets_through_and_others_of_the_port_are_apart(host: Host) -> None:
    """The same port for two containers, by where the question comes from; and both families."""
    outside, first, second = client(host), host.netns(), host.netns()
    for ns in (first, second):
        listen(host, ns)
    near = chain(host, hairpinMode=True, **ports(WEB))
    options: dict[str, Any] = {**ports(WEB), **OPEN}
    far = chain(host, hairpinMode=True, **options)
    host.chain("ADD", near, first)
    host.chain("ADD", far, second, "c2")
    address = "fd00:18::1"

    listed = host.run("nft", "list", "map", "inet", "phalanx_cni", chains(host)[0])
    assert ask(host, outside, NEAR) == FAR, listed
    assert len(chains(host)) == 10
    third = host.netns()
    refused = host.call("ADD", far[0], third, "c3")
    assert refused.output["code"] == 101
    assert "8080" in refused.output["msg"]
    host.chain("DEL", far, second, "c2")
    assert chains(host) == []
    assert ask(host, outside, NEAR) == FAR
    assert is_shut(host, outside, address)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "string", "--string", "x", "--algo", "bm"], "no form in nftables"),
        (["-m", "nonsense"], "nonsense"),
        (["ip", "saddr", "nonsense"], "nft says"),
        (["ip saddr 10.0.0.1; drop"], "can't be in a rule"),
    ],
)
def test_condition_that_cannot_be_made_is_refused_and_leaves_nothing(
    host: Host, words: list[str], said: str
) -> None:
    ns = host.netns()
    [plugin] = chain(host, hairpinMode=True, conditionsV4=words, **ports(WEB))

    refused = host.call("ADD", plugin, ns)

    assert refused.output["code"] == 7
    assert "conditionsV4" in refused.output["msg"]
    assert said in refused.output["msg"]
    assert chains(host) == []
    assert host.held("testnet") == {}
    assert "eth0" not in host.run("ip", "link", ns=ns)


def test_same_as_the_reference(host: Host) -> None:
    """Whoever may not come with the reference may not come with ours, and the other way round."""
    outside, found = client(host), {}
    for kind in ("portmap", "phalanx-portmap"):
        for name, words in (("shut", SHUT["iptables"]), ("open", OPEN)):
            ns = host.netns()
            listen(host, ns)
            more = {"type": kind, **ports(WEB), "conditionsV4": words["conditionsV4"]}
            plugins = chain(host, more, hairpinMode=True, six="")
            result = host.chain("ADD", plugins, ns)
            if name == "shut":
                found[kind, name] = (is_shut(host, outside, NEAR), ask(host, host.ns, NEAR))
            else:
                found[kind, name] = (is_shut(host, host.ns, NEAR), ask(host, outside, NEAR))
            host.chain("DEL", plugins, ns, previous=result)
    for kind in ("portmap", "phalanx-portmap"):
        assert found[kind, "shut"] == (True, NEAR)
        assert found[kind, "open"] == (True, FAR)
