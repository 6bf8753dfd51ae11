"""The HTTP plumbing that master and agent share, over real sockets."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import ConfigError, NotFoundError
from phalanx.mesos.api.answer import answer, answer_with, dressed, errors_in_words, json_answer
from phalanx.mesos.api.authentication import DOORS, known_only, principal_of
from phalanx.mesos.api.call import accepted, agree, read_call
from phalanx.mesos.api.route import Page, Pages, attach
from phalanx.mesos.api.streaming import read_calls, respond
from phalanx.mesos.credential import Doors, parse_credentials, parse_firewall
from phalanx.mesos.recordio import RecordDecoder, encode_record
from phalanx.mesos.stream import Record, Stream
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.media import RECORDIO, Media, decode_as, encode_as
from phalanx.mesos.v1.protobuf import encode_protobuf
from phalanx.mesos.v1.scheduler import Call, Error, Event

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
STREAM = {"Content-Type": RECORDIO, "Message-Content-Type": "application/json"}
MAX_BYTES = 100_000
EVENT = Event(type="ERROR", error=Error(message="over"))


async def echo(request: web.Request) -> web.Response:
    """Answer the call that came."""
    call = await read_call(request, Call)
    return answer(call, accepted(request))


async def mapped(request: web.Request) -> web.Response:
    """Answer a mapping with a message in it."""
    media = accepted(request)
    return answer_with(Event, {"type": "ERROR", "error": Error(message="x")}, media)


async def count(request: web.Request) -> web.Response:
    """Answer how many calls came in one request."""
    terms = agree(request)
    if not terms.is_streaming_request:
        raise web.HTTPUnsupportedMediaType(text="no stream")
    calls = [call async for call in read_calls(request, Call, terms.content)]
    return json_answer({"calls": len(calls)})


async def events(request: web.Request) -> web.StreamResponse:
    """Answer one event to each of two streams, and this one."""
    stream = agree(request).stream("s")
    record = Record(EVENT)
    stream.send(record)
    stream.send(EVENT)
    stream.close()
    return await respond(request, stream, headers={"Mesos-Stream-Id": "s"}, on_end=lambda: None)


async def state(request: web.Request) -> web.Response:
    """Answer a page that is worth compressing, as long as asked for."""
    return json_answer({"path": request.path, "x": "x" * int(request.query.get("x", "0"))})


async def missing(_request: web.Request) -> web.Response:
    """Refuse with an error of ours."""
    raise NotFoundError("no such thing")


def plumbing() -> web.Application:
    """Return an application with a page of each sort."""
    app = web.Application(middlewares=[dressed, errors_in_words], client_max_size=MAX_BYTES)
    pages = [
        Page("/api/v1", echo),
        Page("/api/v1/scheduler", mapped),
        Page("/count", count),
        Page("/events", events),
        Page("/state", state),
        Page("/missing", missing),
        Page("/redirect", state, is_exact=True),
        Page("/weights", state, methods=("GET", "PUT")),
    ]
    attach(app, Pages("slave(1)", pages))
    return app


@pytest.fixture
async def base() -> AsyncIterator[str]:
    async with serve(plumbing(), Listener("127.0.0.1", 0)) as (where,):
        yield f"http://{where}"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/state", "/state"),
        ("/slave(1)/state", "/state"),
        ("/slave%281%29/state", "/state"),
        ("/state.json", "/state"),
        ("/slave(1)/state.json", "/state"),
        ("/state/", "/state"),
        ("/state/deep/er", "/state"),
        ("/state?x=/..", "/state"),
        ("/api/v1", "/api/v1"),
        ("/api/v1/scheduler", "/api/v1/scheduler"),
        ("/api/v1/scheduler/x", "/api/v1/scheduler"),
        ("/api/v1/other", "/api/v1"),
        ("/redirect", "/redirect"),
        ("/redirect/foo", None),
        ("/slave(1)/redirect/foo", None),
        ("/slave(1)/../state", None),
        ("/slave(1)/%2e%2e/state", None),
        ("/slave(1)", None),
        ("/slave(2)/state", None),
        ("/statex", None),
        ("/", None),
        ("", None),
        ("/%zz%ff", None),
    ],
)
def test_paths(path: str, found: str | None) -> None:
    pages = Pages(
        "slave(1)",
        [
            Page("/state", state),
            Page("/api/v1", echo),
            Page("/api/v1/scheduler", mapped),
            Page("/redirect", state, is_exact=True),
        ],
    )
    page = pages.find(path)

    assert (None if page is None else page.path) == found


CHECKS = {
    "method": ("PUT", b"{}", JSON, 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but"),
    "no-type": ("POST", b"{}", {}, 400, "Expecting 'Content-Type' to be present"),
    "text": ("POST", b"{}", {"Content-Type": "text/plain"}, 415, "Expecting 'Content-Type' of app"),
    "charset": ("POST", b"{}", {"Content-Type": "application/json; charset=utf-8"}, 415, "Expect"),
    "recordio": ("POST", b"{}", {"Content-Type": RECORDIO}, 415, "Expecting 'Content-Type' of"),
    "json": ("POST", b"{", JSON, 400, "Failed to parse body into JSON: "),
    "fields": ("POST", b'{"type":3}', JSON, 400, "Failed to convert JSON into Call protobuf: Not"),
    "protobuf": ("POST", b"\xff", PROTOBUF, 400, "Failed to parse body into Call protobuf"),
    "parse-before-accept": ("POST", b"{", {**JSON, "Accept": "text/html"}, 400, "Failed to parse"),
    "accept": ("POST", b"{}", {**JSON, "Accept": "text/html"}, 406, "Expecting 'Accept' to allow"),
    "no-gzip": ("POST", b"junk", {**JSON, "Content-Encoding": "gzip"}, 400, "Failed to decode"),
    "too-long": ("POST", b" " * (MAX_BYTES + 1), JSON, 413, "Maximum request body size"),
    "bomb": (
        "POST",
        gzip.compress(b" " * (MAX_BYTES + 1)),
        {**JSON, "Content-Encoding": "gzip"},
        413,
        "Maximum request body size",
    ),
}


@pytest.mark.parametrize("path", ["/api/v1", "/slave%281%29/api/v1/"])
@pytest.mark.parametrize("case", CHECKS)
async def test_checks_come_in_order(
    base: str, client: aiohttp.ClientSession, path: str, case: str
) -> None:
    method, body, headers, status, words = CHECKS[case]
    async with client.request(
        method, base + path, data=body, headers=headers, skip_auto_headers=["Content-Type"]
    ) as response:
        text = await response.text()

    assert (response.status, text[: len(words)]) == (status, words)
    assert response.content_type == "text/plain"
    assert response.headers.get("Allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, Media.JSON),
        ("*/*", Media.JSON),
        ("application/x-protobuf", Media.PROTOBUF),
        ("application/x-protobuf, application/json", Media.JSON),
        ("application/json;q=0, */*", Media.PROTOBUF),
    ],
)
@pytest.mark.parametrize("content", list(Media))
async def test_either_content_type_is_answered_in_either(
    base: str, client: aiohttp.ClientSession, content: Media, accept: str | None, media: Media
) -> None:
    call = Call(type="REVIVE")
    headers = {"Content-Type": content.value} | ({} if accept is None else {"Accept": accept})
    async with client.post(
        f"{base}/api/v1", data=encode_as(content, call), headers=headers
    ) as response:
        raw = await response.read()

    assert (response.status, response.headers["Content-Type"]) == (200, media.value)
    assert decode_as(media, Call, raw) == call


async def test_accept_may_come_twice(base: str) -> None:
    accept = ("Accept: text/html", "Accept: application/x-protobuf", "Connection: close")
    said = await talk(base, post(b"{}", "Content-Type: application/json", *accept))

    assert b"Content-Type: application/x-protobuf\r\n" in said


@pytest.mark.parametrize("media", list(Media))
async def test_a_mapping_is_answered_in_either(
    base: str, client: aiohttp.ClientSession, media: Media
) -> None:
    async with client.get(f"{base}/api/v1/scheduler", headers={"Accept": media.value}) as response:
        raw = await response.read()

    assert decode_as(media, Event, raw) == Event(type="ERROR", error=Error(message="x"))


async def test_a_gzipped_body_is_read(base: str, client: aiohttp.ClientSession) -> None:
    body = gzip.compress(b'{"type":"REVIVE"}')
    headers = {**JSON, "Content-Encoding": "gzip"}
    async with client.post(f"{base}/api/v1", data=body, headers=headers) as response:
        assert (response.status, await response.read()) == (200, b'{"type":"REVIVE"}')


@pytest.mark.parametrize(
    ("encodings", "length", "is_packed"),
    [
        ("gzip", 2000, True),
        ("gzip", 500_000, True),
        ("*", 2000, True),
        ("gzip", 10, False),
        ("gzip;q=0", 2000, False),
        ("deflate", 2000, False),
        (None, 2000, False),
    ],
)
async def test_long_pages_are_packed_for_who_takes_it(
    base: str, client: aiohttp.ClientSession, encodings: str | None, length: int, is_packed: bool
) -> None:
    headers = {} if encodings is None else {"Accept-Encoding": encodings}
    async with client.get(
        f"{base}/state?x={length}", headers=headers, skip_auto_headers=["Accept-Encoding"]
    ) as response:
        raw = await response.read()

    assert (response.headers.get("Content-Encoding") == "gzip") is is_packed
    body = gzip.decompress(raw) if is_packed else raw
    assert len(json.loads(body)["x"]) == length


async def test_jsonp_wraps_pages_and_not_errors(base: str, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{base}/state?jsonp=back") as response:
        assert response.headers["Content-Type"] == "text/javascript"
        assert await response.text() == 'back({"path":"/state","x":""});'
    async with client.get(f"{base}/missing?jsonp=back") as response:
        assert (response.status, await response.text()) == (404, "no such thing")
    async with client.get(f"{base}/nosuch?jsonp=back") as response:
        assert (response.status, await response.text()) == (404, "404 Not Found.")


async def test_methods_are_checked_where_a_page_asks(
    base: str, client: aiohttp.ClientSession
) -> None:
    async with client.delete(f"{base}/weights") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, PUT")
        assert "{ 'GET', 'PUT' }, but received 'DELETE'" in await response.text()
    async with client.delete(f"{base}/state") as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Accept": RECORDIO}, 200, RECORDIO),
        ({"Accept": RECORDIO, "Message-Accept": "text/html"}, 406, "Expecting 'Message-Accept' to"),
        ({"Message-Accept": "application/json"}, 406, "Expecting 'Message-Accept' to be not set"),
        ({"Message-Content-Type": "application/json"}, 415, "Expecting 'Message-Content-Type' to"),
        ({"Accept": "text/html"}, 406, "Expecting 'Accept' to allow application/json or"),
        ({"Content-Type": RECORDIO}, 400, "Expecting 'Message-Content-Type' to be set for str"),
        (
            {"Content-Type": RECORDIO, "Message-Content-Type": "text/html"},
            415,
            "Expecting 'Message-Content-Type' of application/json or application/x-protobuf",
        ),
    ],
)
async def test_terms_of_streams(
    base: str, client: aiohttp.ClientSession, headers: dict[str, str], status: int, words: str
) -> None:
    async with client.post(f"{base}/events", data=b"", headers={**JSON, **headers}) as response:
        said = response.headers["Content-Type"] if status == 200 else await response.text()

    assert (response.status, said[: len(words)]) == (status, words)


@pytest.mark.parametrize("media", list(Media))
@pytest.mark.parametrize("is_recordio", [True, False])
async def test_streams_are_framed_records_of_either_media(
    base: str, client: aiohttp.ClientSession, media: Media, is_recordio: bool
) -> None:
    accept = {"Accept": media.value}
    if is_recordio:
        accept = {"Accept": RECORDIO, "Message-Accept": media.value}
    headers = {**JSON, **accept, "Accept-Encoding": "gzip"}
    async with client.post(f"{base}/events", data=b"", headers=headers) as response:
        records = RecordDecoder().feed(await response.read())

    assert [decode_as(media, Event, record) for record in records] == [EVENT, EVENT]
    assert response.headers["Content-Type"] == (RECORDIO if is_recordio else media.value)
    assert response.headers.get("Message-Content-Type") == (media.value if is_recordio else None)
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.headers["Mesos-Stream-Id"] == "s"
    assert "Content-Encoding" not in response.headers


async def test_each_record_is_a_chunk_of_its_own(base: str, client: aiohttp.ClientSession) -> None:
    pieces: list[bytes] = [b""]
    async with client.post(f"{base}/events", data=b"", headers=JSON) as response:
        async for data, is_end in response.content.iter_chunks():
            pieces[-1] += data
            if is_end:
                pieces.append(b"")

    assert [piece for piece in pieces if piece] == [encode_record(encode(EVENT))] * 2


def test_a_record_is_written_once_per_media() -> None:
    record = Record(EVENT)
    streams = [Stream(str(n), media=media) for n, media in enumerate([*Media, *Media])]
    for stream in streams:
        stream.send(record)

    assert record.framed(Media.JSON) is record.framed(Media.JSON)
    assert [stream.take() for stream in streams] == [
        encode_record(encode(EVENT)),
        encode_record(encode_protobuf(EVENT)),
    ] * 2


async def test_calls_come_in_one_request(base: str, client: aiohttp.ClientSession) -> None:
    body = encode_record(b"{}") * 3
    for cut in range(len(body)):

        async def pieces(cut: int = cut) -> AsyncIterator[bytes]:
            yield body[:cut]
            yield body[cut:]

        async with client.post(f"{base}/count", data=pieces(), headers=STREAM) as response:
            assert (response.status, await response.text()) == (200, '{"calls":3}')


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"2\n{", "Received EOF while reading request body"),
        (b"2", "Received EOF while reading request body"),
        (b"x\n{}", "Failed to decode record: "),
        (b"-2\n{}", "Failed to decode record: "),
        (b"99999999\n{}", "Failed to decode record: "),
        (b"1" * 40, "Failed to decode record: "),
        (b"1\n{", "Failed to parse body into JSON: "),
        (b"2\n[]", "Failed to convert JSON into Call protobuf: "),
    ],
)
async def test_a_broken_stream_of_calls_is_refused(
    base: str, client: aiohttp.ClientSession, body: bytes, words: str
) -> None:
    async with client.post(f"{base}/count", data=body, headers=STREAM) as response:
        text = await response.text()

    assert (response.status, text[: len(words)]) == (400, words)


async def talk(base: str, raw: bytes, *, until: bytes | None = None) -> bytes:
    """Send bytes to the server; return what comes until it closes, or says *until*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    try:
        writer.write(raw)
        async with asyncio.timeout(20):
            return await (reader.read() if until is None else reader.readuntil(until))
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def post(body: bytes, *lines: str, version: str = "1.1") -> bytes:
    """Return a request as it goes over the wire."""
    head = [f"POST /api/v1 HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


async def test_requests_in_a_row_are_answered_in_order(base: str) -> None:
    types = ["REVIVE", "SUPPRESS", "DECLINE"]
    bodies = [encode(Call(type=kind)) for kind in types]
    wire = [post(body, "Content-Type: application/json") for body in bodies[:-1]]
    wire.append(post(bodies[-1], "Content-Type: application/json", "Connection: close"))

    answers = await talk(base, b"".join(wire))

    places = [answers.index(body) for body in bodies]
    assert places == sorted(places)
    assert answers.count(b"HTTP/1.1 200 OK") == 3


async def test_an_old_client_is_answered_and_left(base: str) -> None:
    said = await talk(base, post(b"{}", "Content-Type: application/json", version="1.0"))
    streamed = await talk(base, b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n")

    assert said.startswith(b"HTTP/1.0 200 OK")
    assert said.endswith(b"{}")
    assert streamed.startswith(b"HTTP/1.0 405")


async def test_an_old_client_has_its_stream_until_the_end(base: str) -> None:
    body = post(b"", "Content-Type: application/json", version="1.0")
    said = await talk(base, body.replace(b"/api/v1", b"/events"))

    head, _, rest = said.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert [decode(Event, record) for record in RecordDecoder().feed(rest)] == [EVENT, EVENT]


async def test_a_body_that_is_too_long_is_refused_before_it_comes(base: str) -> None:
    said = await talk(
        base,
        b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n{",
        until=b"\r\n",
    )

    assert said.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"credentials":[{"principal":"a","secret":"b"}]}', {"a": "b"}),
        ("a b\n\nc d\n", {"a": "b", "c": "d"}),
        ("", {}),
    ],
)
def test_credentials(text: str, found: dict[str, str]) -> None:
    assert parse_credentials(text) == found


@pytest.mark.parametrize("text", ['{"credentials":5}', "{", "hidden", "a hidden c"])
def test_bad_credentials_are_refused_without_a_secret_in_the_words(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^credentials: ") as refusal:
        parse_credentials(text)

    assert "hidden" not in str(refusal.value)


def basic(text: str) -> dict[str, str]:
    """Return the header that proves a principal."""
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/state", {}, 401),
        ("/slave(1)/state/", {}, 401),
        ("/state", basic("bob:wrong"), 401),
        ("/state", basic("bob"), 401),
        ("/state", basic("al:secret"), 401),
        ("/state", {"Authorization": "Basic %%%"}, 401),
        ("/state", {"Authorization": "Bearer x"}, 401),
        ("/state", basic("bob:secret"), 200),
        ("/free", {}, 200),
        ("/other", {}, 200),
        ("/nosuch", {}, 404),
        ("/v1/networks", {}, 404),
    ],
)
async def test_a_realm_asks_who_calls(
    client: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
) -> None:
    async def name(request: web.Request) -> web.Response:
        return web.Response(text=str(principal_of(request)))

    app = web.Application(middlewares=[errors_in_words, known_only])
    app[DOORS] = Doors({"readonly": "mesos-agent-readonly"}, {"bob": "secret"})
    pages = [Page("/state", name), Page("/free", name, realm=None)]
    attach(app, Pages("slave(1)", [*pages, Page("/other", name, realm="readwrite")]))
    async with (
        serve(app, Listener("127.0.0.1", 0)) as (where,),
        client.get(f"http://{where}{path}", headers=headers) as response,
    ):
        text = await response.text()
        asked = response.headers.get("WWW-Authenticate")

    assert response.status == status
    if status == 401:
        assert (asked, text) == ('Basic realm="mesos-agent-readonly"', "401 Unauthorized.")
    if status == 200:
        assert text == ("bob" if headers else "None")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/slave(1)/state", 403),
        ("/state.json", 403),
        ("/state/x", 403),
        ("/v1/networks", 403),
        ("/free", 200),
        ("/nosuch", 404),
    ],
)
async def test_closed_pages_are_for_nobody(
    client: aiohttp.ClientSession, path: str, status: int
) -> None:
    closed = parse_firewall('{"disabled_endpoints":{"paths":["/state","/v1/networks"]}}')
    app = web.Application(middlewares=[errors_in_words, known_only])
    app[DOORS] = Doors({}, {}, closed)
    attach(app, Pages("slave(1)", [Page("/state", state), Page("/free", state)]))
    async with (
        serve(app, Listener("127.0.0.1", 0)) as (where,),
        client.get(f"http://{where}{path}") as response,
    ):
        text = await response.text()

    assert response.status == status
    if status == 403 and not path.startswith("/v1/"):
        assert text == f"Endpoint '{path}' is disabled"


@pytest.mark.parametrize("text", ["{", '{"disabled_endpoints":[]}', "/state"])
def test_bad_firewall_rules_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--firewall-rules: "):
        parse_firewall(text)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.binary(max_size=300),
    path=st.sampled_from(["/api/v1", "/count", "/api/v1/scheduler", "/events"]),
    content=st.sampled_from([*Media, RECORDIO, "text/plain"]),
    accept=st.sampled_from(["*/*", "application/x-protobuf", RECORDIO, "x", "", ";;,,q=0"]),
    more=st.sampled_from(
        [{}, {"Message-Content-Type": "application/json"}, {"Message-Accept": ""}]
    ),
)
def test_whatever_comes_is_answered_in_words(
    body: bytes, path: str, content: str, accept: str, more: dict[str, str]
) -> None:
    async def ask() -> tuple[int, str]:
        async with (
            serve(plumbing(), Listener("127.0.0.1", 0)) as (where,),
            aiohttp.ClientSession() as session,
            asyncio.timeout(20),
            session.post(
                f"http://{where}{path}",
                data=body,
                headers={"Content-Type": content, "Accept": accept, **more},
            ) as response,
        ):
            return response.status, (await response.read()).decode(errors="replace")

    status, text = asyncio.run(ask())

    assert status in (200, 400, 406, 415)
    assert text or status == 200


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x00\x01\x02\r\n\r\n", id="garbage"),
        pytest.param(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", id="path"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", id="star"),
        pytest.param(b"GET /state HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(
            b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
            id="chunks",
        ),
    ],
)
async def test_what_is_hardly_http_is_refused(base: str, raw: bytes) -> None:
    said = await talk(base, raw)

    assert said.split(b" ", 2)[1].startswith(b"4")
