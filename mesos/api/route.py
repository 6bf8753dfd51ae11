"""Which page a path names: actor prefixes, aliases, longest prefix (reference mesos §0.1)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

from phalanx.core.api.error import Handler


@dataclass(frozen=True, slots=True)
class Page:
    """What answers *path* and, unless it *is_exact*, everything below it.

    An open page is answered by every master, leading or not. Without *methods*
    any method will do, as with most pages of Mesos. *realm* is the suffix of the
    realm that a caller must belong to if authentication is asked for; None is
    for all.
    """

    path: str
    handler: Handler
    is_open: bool = False
    is_exact: bool = False
    methods: tuple[str, ...] = ()
    realm: str | None = "readonly"


class Pages:
    """The pages of a daemon, each also below the name of its actor (``/master``, ``/slave(1)``)."""

    def __init__(self, actor: str, pages: Iterable[Page]) -> None:
        self._actor = f"/{actor}/"
        self._pages: Mapping[str, Page] = {page.path: page for page in pages}

    @property
    def all(self) -> tuple[Page, ...]:
        """Return every page."""
        return tuple(self._pages.values())

    def find(self, path: str) -> Page | None:
        """Return the page of a path, percent-encoded or not, or None.

        The longest known prefix wins, ``.json`` and a last ``/`` are ignored, and
        a path that climbs names nothing.
        """
        path = unquote(path.partition("?")[0])
        if "/.." in path:
            return None
        if path.startswith(self._actor):
            path = path[len(self._actor) - 1 :]
        path = path.rstrip("/")
        found = self._pages.get(path) or self._pages.get(path.removesuffix(".json"))
        if found is not None:
            return found
        while path:
            path = path.rpartition("/")[0]
            found = self._pages.get(path)
            if found is not None and not found.is_exact:
                return found
        return None


PAGES: web.AppKey[Pages] = web.AppKey("pages", Pages)


def attach(app: web.Application, pages: Pages) -> None:
    """Serve *pages* for every path but those of our own below ``/v1/``."""
    app[PAGES] = pages
    app.router.add_route("*", "/{tail:(?!v1/).*}", _dispatch)


def page_of(request: web.Request) -> Page | None:
    """Return the page that a request names."""
    return request.app[PAGES].find(request.path)


def not_allowed(method: str, allowed: Iterable[str]) -> web.HTTPMethodNotAllowed:
    """Return the answer to a method that nobody expects here."""
    allowed = tuple(allowed)
    names = ", ".join(f"'{name}'" for name in allowed)
    answer = web.HTTPMethodNotAllowed(
        method,
        allowed,
        text=f"405 Method Not Allowed. Expecting one of {{ {names} }}, but received '{method}'.",
    )
    answer.headers["Allow"] = ", ".join(allowed)  # in Mesos' order, which a set would lose
    return answer


async def _dispatch(request: web.Request) -> web.StreamResponse:
    page = page_of(request)
    if page is None:
        raise web.HTTPNotFound
    length, most = request.content_length or 0, request.client_max_size
    if length > most:  # said before a byte of it has come
        raise web.HTTPRequestEntityTooLarge(most, length)
    if page.methods and request.method not in page.methods:
        raise not_allowed(request.method, page.methods)
    return await page.handler(request)
