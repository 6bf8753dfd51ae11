"""What a request asks to have shown with apps and groups (reference marathon §2.2 and §2.4)."""

from aiohttp import web

_EMBEDS = {
    "tasks": {"tasks", "deployments"},
    "failures": {"tasks", "deployments", "lastTaskFailure"},
}
IN_LISTS = frozenset({"counts", "deployments"})  # shown of every app of a list
OF_ONE = frozenset({"counts", "deployments", "tasks", "lastTaskFailure"})
_WHOLE_GROUP = frozenset({"groups", "apps", "pods"})


def app_embeds(request: web.Request) -> frozenset[str]:
    """Return what to show of each app: ``tasks``, ``counts`` and so on; unknown names too."""
    found: set[str] = set()
    for text in request.query.getall("embed", []):
        name = text.removeprefix("group.")
        if "." in name:
            name = name.removeprefix("apps.").removeprefix("app.")
            found |= _EMBEDS.get(name, {name})
        elif text == name:  # the prefix may be left out, but then nothing of a group is meant
            found |= _EMBEDS.get(name, {name})
    return frozenset(found)


def group_embeds(request: web.Request) -> frozenset[str]:
    """Return which of ``groups``, ``apps`` and ``pods`` to show of a group; unasked all."""
    found: set[str] = set()
    for text in request.query.getall("embed", []):
        parts = text.removeprefix("group.").split(".")
        if parts[0] in _WHOLE_GROUP:
            found.add(parts[0])
    return frozenset(found) or _WHOLE_GROUP
