"""What is wrong with the labels of tasks, in words for whoever wrote them; pure."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from phalanx.core.error import InvalidError
from phalanx.lb.desired import candidates, is_in_use
from phalanx.lb.option import disagreements, read_options
from phalanx.lb.service import IPAddress, spell
from phalanx.net.model.objects import Protocol, Task, TaskPort
from phalanx.net.model.view import View
from phalanx.net.model.vip import (
    CONTAINER_SCOPE,
    HOST_SCOPE,
    KEY_PREFIXES,
    LEGACY_KEY,
    LONGEST,
    SCOPE_KEY,
    SHOWN,
    AddressVip,
    NamedVip,
    declared_vips,
    malformed_vips,
    parse_vip,
)

SCOPES = (CONTAINER_SCOPE, HOST_SCOPE)
# Labels of tasks that look as if a VIP was meant: key and value.
MEANT = re.compile(r"vip(_.*)?", re.IGNORECASE | re.DOTALL)
MEANT_VALUE = re.compile(r".*:[0-9]{1,5}", re.DOTALL)


class Problem(msgspec.Struct, frozen=True, order=True):
    """Something about a VIP that is not as its author will have meant it."""

    vip: str  # empty for a label that names none
    label: str  # KEY=VALUE; empty if it is about several
    reason: str
    tasks: tuple[str, ...] = ()  # framework id and task id, with a slash between


def vip_problems(view: View, *, taken: Collection[IPAddress] = ()) -> tuple[Problem, ...]:
    """Return what is wrong with the labels of the tasks of *view*, in order.

    *taken* as in `desired_services`. One fault in all tasks of an app is one problem.
    """
    tasks: dict[tuple[str, str, str], list[str]] = {}
    for task in view.tasks.values():
        if task.ports or task.labels:
            for found in _of_task(view, task, taken):
                tasks.setdefault((found.vip, found.label, found.reason), []).append(task.key)
    problems = [Problem(*what, tuple(sorted(who))) for what, who in tasks.items()]
    return tuple(sorted([*problems, *_of_names(view), *_of_services(view)]))


def about(problems: Sequence[Problem], name: str) -> list[Problem]:
    """Return the problems with labels that name no VIP, but whose value has *name* in it."""
    return [
        each
        for each in problems
        if name and not each.vip and name in each.label.partition("=")[2].lower()
    ]


def name_of(vip: NamedVip | AddressVip) -> str:
    """Return a VIP as its label would say it in canonical form."""
    host = vip.name if isinstance(vip, NamedVip) else spell(vip.address)
    return f"{host}:{vip.port}/{vip.protocol}"


def names_by_address(view: View) -> dict[IPAddress, str]:
    """Return the name that each leased address belongs to."""
    return {
        address: lease.name
        for lease in view.vips.values()
        for address in (lease.address, lease.address6)
        if address is not None
    }


def _of_task(view: View, task: Task, taken: Collection[IPAddress]) -> Iterator[Problem]:
    framework = view.frameworks.get(task.framework_id)
    name = framework.name if framework is not None else ""
    for bad in malformed_vips(task, name):
        yield Problem("", f"{bad.key}={bad.value}", bad.reason)
    yield from _of_ignored(task)
    for declared in declared_vips(task, name):
        vip = name_of(declared.vip)
        for option in read_options(declared.port.labels)[1]:
            yield Problem(vip, f"{option.key}={option.value}", option.reason)
        yield from _of_scope(vip, declared.port)
        if isinstance(declared.vip, AddressVip) and is_in_use(view, declared.vip.address, taken):
            yield Problem(vip, "", "the address is in use, or reserved: nothing is balanced there")


def _of_ignored(task: Task) -> Iterator[Problem]:
    """Yield labels that look like VIPs and are none."""
    for port in task.ports:
        for key, value in port.labels:
            if key[:3].lower() != "vip":
                continue
            if not key.startswith(KEY_PREFIXES):
                yield _ignored(key, value, "the key begins with neither VIP nor vip")
            elif port.number == 0:
                yield _ignored(key, value, "the port has number 0: nobody can be reached there")
    for key, value in task.labels:
        is_meant = MEANT.fullmatch(key) and MEANT_VALUE.fullmatch(value[-LONGEST:])
        if is_meant and not LEGACY_KEY.fullmatch(key):
            yield _ignored(key, value, "a label of the task: VIPs are labels of its ports")


def _ignored(key: str, value: str, reason: str) -> Problem:
    return Problem("", f"{key[:SHOWN]}={value[:SHOWN]}", f"{reason}; ignored")


def _of_scope(vip: str, port: TaskPort) -> Iterator[Problem]:
    said = [value for key, value in port.labels if key == SCOPE_KEY]
    if len(set(said)) > 1:
        taken = HOST_SCOPE if HOST_SCOPE in said else CONTAINER_SCOPE
        yield Problem(vip, f"{SCOPE_KEY}={', '.join(said)}", f"said differently: {taken} counts")
    elif said and said[0] not in SCOPES:
        reason = f"neither {CONTAINER_SCOPE} nor {HOST_SCOPE}: {CONTAINER_SCOPE} counts"
        yield Problem(vip, f"{SCOPE_KEY}={said[0]}", reason)


def _of_names(view: View) -> Iterator[Problem]:
    """Yield names that several frameworks or labels come to, and addresses that a name has."""
    who: dict[NamedVip, dict[str, list[str]]] = {}
    said: dict[tuple[NamedVip, str], dict[str, list[str]]] = {}
    named = names_by_address(view)
    for task in view.tasks.values():
        if not (task.ports or task.labels):
            continue
        framework = view.frameworks.get(task.framework_id)
        name = framework.name if framework is not None else ""
        for declared in declared_vips(task, name):
            vip = declared.vip
            if isinstance(vip, NamedVip):
                who.setdefault(vip, {}).setdefault(name, []).append(task.key)
            elif vip.address in named:
                reason = f"the address is leased to {named[vip.address]}: they share backends"
                yield Problem(name_of(vip), "", reason, (task.key,))
        for vip, words in _spelled(task, name):
            said.setdefault((vip, name), {}).setdefault(words, []).append(task.key)
    for vip, users in who.items():
        yield from _shared(vip, "frameworks", users)
    for (vip, _), users in said.items():
        yield from _shared(vip, "labels", users)


def _shared(vip: NamedVip, what: str, users: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Yield that the VIP has several *users*, each with its tasks."""
    if len(users) > 1:
        words = ", ".join(repr(each[:SHOWN]) for each in sorted(users))
        tasks = {key for keys in users.values() for key in keys}
        reason = f"the name is one for {what} {words}: they share backends"
        yield Problem(name_of(vip), "", reason, tuple(sorted(tasks)))


def _spelled(task: Task, framework_name: str) -> Iterator[tuple[NamedVip, str]]:
    """Yield each named VIP of the task's ports with what its label says of the name.

    Neither case nor a slash before it makes another name.
    """
    for port in task.ports:
        for key, value in port.labels:
            if not key.startswith(KEY_PREFIXES) or len(key) + len(value) > LONGEST:
                continue
            for word in port.protocol.split(",") if port.number else ():
                with suppress(ValueError, InvalidError):
                    vip = parse_vip(value, framework_name, Protocol(word.strip().lower()))
                    if isinstance(vip, NamedVip):
                        yield vip, value.rpartition(":")[0].lower().lstrip("/")


def _of_services(view: View) -> Iterator[Problem]:
    name_at = names_by_address(view)
    said: dict[tuple[str, str], set[str]] = {}  # a name's two addresses say the same
    for vip, found in candidates(view).items():
        for words in disagreements([each.options for each in found]):
            host = name_at.get(vip.address, spell(vip.address))
            keys = said.setdefault((f"{host}:{vip.port}/{vip.protocol}", words), set())
            keys |= {each.task.key for each in found}
    for (vip_name, words), keys in said.items():
        yield Problem(vip_name, "", words, tuple(sorted(keys)))
