"""Element commands that turn what the maps hold into what they should; pure."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from phalanx.lb.nftables.entry import EMPTY, Entry
from phalanx.lb.nftables.ruleset import FAMILIES, FAMILY_OF, TABLE, Family
from phalanx.lb.service import Vip
from phalanx.lb.slots import LENGTHS

# Elements in one transaction; a bigger change is split between services, never inside one.
BATCH = 20_000
KINDS = ("slots", "weights", "options", "hashed", "refused")


def _sets_of(family: Family) -> tuple[str, ...]:
    return (*map(family.named, KINDS), *map(family.set_of, LENGTHS))


SETS_OF: Mapping[int, tuple[str, ...]] = {each.version: _sets_of(each) for each in FAMILIES}
SETS = tuple(name for sets in SETS_OF.values() for name in sets)


class Change(msgspec.Struct, frozen=True):
    """One VIP's elements before and after."""

    vip: Vip
    before: Entry
    after: Entry


def render_batches(changes: Iterable[Change], *, batch: int = BATCH) -> Iterator[str]:
    """Yield scripts of about *batch* elements; each is one transaction."""
    removed: dict[str, list[str]] = {name: [] for name in SETS}
    added: dict[str, list[str]] = {name: [] for name in SETS}
    size = 0
    for change in changes:
        before = elements(change.vip, change.before) if change.before is not EMPTY else {}
        after = elements(change.vip, change.after)
        for name in SETS_OF[change.vip.address.version]:
            old, new = before.get(name, {}), after[name]
            if not old and not new:
                continue
            removed[name] += [key for key, value in old.items() if new.get(key) != value]
            fresh = [key + value for key, value in new.items() if old.get(key) != value]
            added[name] += fresh
            size += len(fresh)
        if size >= batch:
            yield _render(removed, added)
            removed = {name: [] for name in SETS}
            added = {name: [] for name in SETS}
            size = 0
    if script := _render(removed, added):
        yield script


def elements(vip: Vip, entry: Entry) -> Mapping[str, Mapping[str, str]]:
    """Return the elements of a VIP in nft's words: for each set, what follows each key."""
    family = FAMILY_OF[vip.address.version]
    key = f"{vip.address} . {vip.protocol} . {vip.port}"
    return {
        family.named("slots"): {
            f"{key} . {slot}": f" : {endpoint.address} . {endpoint.port}"
            for slot, endpoint in entry.slots.items()
        },
        family.named("weights"): {
            f"{key} . {endpoint.address} . {endpoint.port}": f" : {weight}"
            for endpoint, weight in entry.weights.items()
        },
        family.named("options"): {key: f" : {entry.options}"} if entry.options else {},
        family.named("hashed"): {key: ""} if entry.is_hashed else {},
        family.named("refused"): {key: ""} if entry.is_refused else {},
        **{
            family.set_of(length): {key: ""} if length in entry.lengths else {}
            for length in LENGTHS
        },
    }


def _render(removed: Mapping[str, list[str]], added: Mapping[str, list[str]]) -> str:
    return "".join(
        f"{verb} element {TABLE} {name} {{ {', '.join(words[name])} }}\n"
        for verb, words in (("delete", removed), ("add", added))
        for name in SETS
        if words[name]
    )
