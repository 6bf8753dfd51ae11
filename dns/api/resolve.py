"""``/v1/resolve`` of the node API: why a name has the answer that it has."""

from collections.abc import Mapping

from aiohttp import web

from phalanx.core.error import InvalidError
from phalanx.dns.explain.foreign import explain_foreign, reply_json
from phalanx.dns.explain.own import Contribution, Explanation, explain_own, text_of
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.record import RecordType, is_encodable


def resolve_route(table: ZoneTable, forwarder: Forwarder) -> web.RouteDef:
    """Return the route; the query names ``name`` and, if not A, ``type``.

    400 with the field named for what is no name or no type that we have.
    """

    async def get_resolve(request: web.Request) -> web.Response:
        name, type_ = _asked(request.query)
        own = explain_own(table.ledger, table.zones, table.aliases, name)
        body: dict[str, object] = {"name": name, "type": type_.name}
        if own is not None:
            return web.json_response({**body, **_own_json(own, type_)})
        replies = await explain_foreign(forwarder, name, type_) if forwarder.forwards else []
        status = replies[0].rcode if replies else "REFUSED"
        shown = [reply_json(reply) for reply in replies]
        return web.json_response({**body, "zone": None, "status": status, "replies": shown})

    return web.get("/v1/resolve", get_resolve)


def _asked(query: Mapping[str, str]) -> tuple[str, RecordType]:
    name = f"{query.get('name', '').lower().rstrip('.')}."
    if not is_encodable(name):
        raise InvalidError(f"name: {name!r} is not labels of 1 to 63 characters joined by dots")
    word = query.get("type", "A").upper()
    if word not in RecordType.__members__:
        raise InvalidError(f"type: {word!r} is none of {', '.join(RecordType.__members__)}")
    return name, RecordType[word]


def _own_json(own: Explanation, type_: RecordType) -> Mapping[str, object]:
    def is_asked(each: Contribution) -> bool:
        return type_ in (each.type, RecordType.ANY)

    status = "NOERROR" if own.exists else "NXDOMAIN" if own.is_known else "SERVFAIL"
    return {
        "zone": own.zone,
        "canonical": own.canonical,
        "status": status,
        "answers": [_row(each) for each in own.answering if is_asked(each)],
        "left_out": [_row(each) for each in own.left_out if is_asked(each)],
        "other_types": sorted({e.type.name for e in own.answering if not is_asked(e)}),
        "unnamed": list(own.unnamed),
        "notes": list(own.notes),
    }


def _row(each: Contribution) -> Mapping[str, object]:
    return {
        "type": each.type.name,
        "data": text_of(each.data),
        "from": each.source,
        "reason": each.reason or None,
    }
