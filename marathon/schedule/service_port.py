"""Service ports: a number for every port that asks for 0, unique over all apps."""

from collections.abc import Container, Iterable, Iterator

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.marathon.model.app import App

FIRST, LAST = 10000, 20000


def service_ports(app: App) -> tuple[int, ...]:
    """Return the service ports of an app, in the order of its ports."""
    if app.is_on_host_network:
        return tuple(definition.port for definition in app.port_definitions or ())
    return tuple(mapping.service_port for mapping in app.mappings)


def free_ports(taken: Container[int]) -> Iterator[int]:
    """Yield the numbers of the range, each once, that are not *taken* when their turn comes."""
    return (number for number in range(FIRST, LAST + 1) if number not in taken)


def with_service_ports(app: App, *, before: App | None, free: Iterator[int]) -> App:
    """Return *app* with a service port wherever it asks for 0.

    The ports that it had *before* come first, then those that are *free*. Many apps
    share one such iterator. Raises UnavailableError when it is exhausted.
    """
    asked = service_ports(app)
    if all(asked):
        return app
    own = () if before is None else service_ports(before)
    spare = [port for port in own if FIRST <= port <= LAST and port not in asked]
    used = {*asked, *own}
    numbers = _assigned(asked, spare, (number for number in free if number not in used))
    replace = msgspec.structs.replace
    if app.is_on_host_network or app.container is None:
        definitions = tuple(
            replace(definition, port=number)
            for definition, number in zip(app.port_definitions or (), numbers, strict=True)
        )
        return replace(app, port_definitions=definitions)
    mappings = tuple(
        replace(mapping, service_port=number)
        for mapping, number in zip(app.mappings, numbers, strict=True)
    )
    return replace(app, container=replace(app.container, port_mappings=mappings))


def _assigned(asked: Iterable[int], spare: list[int], free: Iterator[int]) -> list[int]:
    numbers = []
    for number in asked:
        chosen = number or (spare.pop(0) if spare else next(free, None))
        if chosen is None:
            raise UnavailableError(f"no service port is free between {FIRST} and {LAST}")
        numbers.append(chosen)
    return numbers
