"""The dashboard's web application: what is answered, once the guard has let a request through.

One route changes something, ``POST /api/clear``, and only where the application was given the means. It wants a
JSON body with a token that is new at each start. No path from a request reaches the file system.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pyjama_instrument.document import DashboardData, SessionTree, Span
from pyjama_instrument.errors import PyjamaError, SessionNotFound
from pyjama_instrument.export import FORMATS, file_name
from pyjama_instrument.viewer.asked import asked_of
from pyjama_instrument.viewer.diagram import mermaid
from pyjama_instrument.viewer.faults import is_a_client_s_doing, report
from pyjama_instrument.viewer.guard import Access, Guard, access
from pyjama_instrument.viewer.live import Live, ReaderLike, Source, TooManyWatch
from pyjama_instrument.viewer.pages import older
from pyjama_instrument.viewer.sessions import OpenSessions
from pyjama_instrument.viewer.spans import sessions_inside, span_of
from pyjama_instrument.viewer.steps import step_states

__all__ = ["DashboardApp", "create_app"]

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_LONGEST_BODY = 4096
_BODY_SECONDS = 5.0
_CURSOR = re.compile(r"(?P<ts>[0-9]{1,19})\.(?P<key>[ -~]{0,80})")


class DashboardApp:
    """The ASGI application: the routes behind the guard. ``close()`` ends its streams."""

    def __init__(self, routes: ASGIApp, live: Live, sources: Iterable[Source], access: Access) -> None:
        self._guarded = Guard(routes, access)
        self._routes = routes
        self._live = live
        self._sources = tuple(sources)
        self.has_token = access.token is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._guarded if scope["type"] == "http" else self._routes
        try:
            await answer(scope, receive, send)
        except Exception as error:  # the client has been told, or the connection is closed on it
            if not is_a_client_s_doing(error):
                report("a request could not be answered", error)

    def prepare(self) -> None:
        """Start the reading threads."""
        for source in self._sources:
            source.start()

    def close(self) -> None:
        """End the event streams. To be called in the event loop's thread."""
        self._live.close()

    def release(self) -> None:
        """Give back the reading threads. To be called when the event loop has ended."""
        for source in self._sources:
            source.close()


# ── the routes ──────────────────────────────────────────────────────────────────────────────────────────


class _AnythingConvertor(Convertor[str]):
    """Any text at all: slashes, as ``path`` allows, and line breaks too."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _AnythingConvertor())


def create_app(
    reader_factory: Callable[[], ReaderLike],
    *,
    store: str | None = None,
    clear: Callable[[], None] | None = None,
    export: Callable[[str | None, str], Iterator[bytes]] | None = None,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    root_path: str = "",
    trust_proxy: bool = False,
) -> DashboardApp:
    """The dashboard over the readers that ``reader_factory`` makes.

    Args:
        reader_factory: makes a reader; it is used in a thread of its own. Two are made at most: one for the
            live view, one for single runs, so that a long run being read does not hold up the live view.
        store: the directory's name, to be shown on the page.
        clear: sets all totals to zero; without it nothing can be changed from the page.
        export: gives a session, or with None the whole store, in a format; without it nothing can be downloaded.
        token: what whoever asks must know; without it only this machine is answered.
        allowed_hosts: further names to which it answers, see :func:`~pyjama_instrument.viewer.guard.access`.
        root_path: the path below which a proxy shows it.
        trust_proxy: whoever asks by one of those names needs no token.

    Raises:
        ConfigError: the token could be guessed, a name or the path is none, or a token is missing.
    """
    allowed = access(token, allowed_hosts, root_path, trust_proxy=trust_proxy)
    overview, runs = Source(reader_factory, "live"), Source(reader_factory, "runs")
    live = Live(overview, store, clearable=clear is not None)
    pages = _Pages(live, overview, runs)
    clearing, exporting = _Clearing(runs, clear), _Exporting(export)
    routes = [
        Route("/", pages.index),
        Route("/static/{name}", pages.static),
        Route("/api/data", pages.data),
        Route("/api/view", pages.view),
        Route("/api/stream", pages.stream),
        Route("/api/activity", pages.activity),
        Route("/api/token", clearing.token),
        Route("/api/clear", clearing.clear, methods=["POST"]),
        Route("/api/export", exporting.everything),
        Route("/api/agent/{id:anything}/diagram", pages.diagram),
        Route("/api/session/{id}/view", pages.session_view),
        Route("/api/session/{id}/span", pages.session_span),
        Route("/api/session/{id}/export", exporting.session),
        Route("/api/session/{id}", pages.session),
    ]
    handlers = {HTTPException: _http_error, Exception: _server_error}
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False
    return DashboardApp(inner, live, (overview, runs), allowed)


class _Pages:
    """The endpoints. All of them only read."""

    def __init__(self, live: Live, overview: Source, runs: Source) -> None:
        self._live = live
        self._overview = overview
        self._runs = runs
        self._open = OpenSessions()
        self._assets = {file.name: file.read_bytes() for file in _STATIC.iterdir() if file.suffix in _TYPES}

    async def index(self, request: Request) -> Response:
        return self._asset("index.html")

    async def static(self, request: Request) -> Response:
        return self._asset(request.path_params["name"])

    def _asset(self, name: str) -> Response:
        if name not in self._assets:
            raise HTTPException(404)
        return Response(self._assets[name], headers={"Content-Type": _TYPES[Path(name).suffix]})

    async def data(self, request: Request) -> Response:
        return _json(await self._overview.run(lambda: self._overview.dashboard().to_json().encode()))

    async def view(self, request: Request) -> Response:
        return _json(await self._live.view(asked_of(request.query_params)))

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        asked = asked_of(request.query_params)
        try:
            self._live.check(asked)
        except TooManyWatch:
            raise HTTPException(503, "Too many pages are open: this one asks every two seconds instead.") from None
        # nginx would collect events until its buffer is full.
        return StreamingResponse(
            self._live.watch(asked), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def activity(self, request: Request) -> Response:
        asked, before = asked_of(request.query_params), _CURSOR.fullmatch(request.query_params.get("before", ""))
        if before is None:
            raise HTTPException(400, "Say before what: the value of “older” in the answer before this one.")
        place = int(before["ts"]), before["key"]
        return _json(await self._runs.run(lambda: _text(older(self._runs, asked, place))))

    async def diagram(self, request: Request) -> Response:
        data = await self._overview.run(self._overview.dashboard)
        agent = data.agents.get(request.path_params["id"])
        if agent is None:
            raise HTTPException(404, "No agent of that id is known.")
        return PlainTextResponse(mermaid(step_states(agent)))

    async def session(self, request: Request) -> Response:
        return _json(await self._runs.run(lambda: self._tree(request.path_params["id"]).to_json().encode()))

    async def session_view(self, request: Request) -> Response:
        session_id, since = request.path_params["id"], request.query_params.get("since", "")
        data = await self._overview.run(self._overview.dashboard)
        return _json(await self._runs.run(lambda: self._session_view(session_id, data, since)))

    async def session_span(self, request: Request) -> Response:
        session_id, key = request.path_params["id"], request.query_params.get("key", "")
        tree = await self._runs.run(lambda: self._tree(session_id))
        inside: list[Span] = []
        if key in tree.child_sessions:
            data = await self._overview.run(self._overview.dashboard)
            inside = sessions_inside(tree, data.sessions)
        span = await self._runs.run(lambda: span_of(tree, key, inside))
        if span is None:
            raise HTTPException(404, "No span of that id is known.")
        return _json(_text(span))

    def _tree(self, session_id: str) -> SessionTree:
        try:
            return self._runs.session(session_id)
        except SessionNotFound:
            raise HTTPException(404, "No run has this id.") from None

    def _session_view(self, session_id: str, data: DashboardData, since: str) -> bytes:
        return _text(self._open.view(self._tree(session_id), data.sessions, data.timestamp, since))


class _Clearing:
    """The one thing that can be changed: all totals go to zero. The token keeps everybody out who cannot read it."""

    def __init__(self, source: Source, clear: Callable[[], None] | None) -> None:
        self._source = source
        self._clear = clear
        self._token = secrets.token_urlsafe(32)

    async def token(self, request: Request) -> Response:
        if self._clear is None:
            raise HTTPException(404, "Nothing can be changed here.")
        return _json(_text({"token": self._token}))

    async def clear(self, request: Request) -> Response:
        if self._clear is None:
            raise HTTPException(404, "Nothing can be changed here.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "Send JSON.")
        given = await _token_in_body(request)
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode("ascii")):
            raise HTTPException(403, "The token is not that of this start of the dashboard: load the page again.")
        try:
            await self._source.run(self._clear)
        except (PyjamaError, OSError) as error:
            report("the store cannot be cleared", error)
            raise HTTPException(503, f"The store cannot be cleared: {error}") from error
        return _json(_text({"cleared": True}))


class _Exporting:
    """Downloads in the formats of other tools. They are made as they are sent, in threads of their own."""

    def __init__(self, export: Callable[[str | None, str], Iterator[bytes]] | None) -> None:
        self._export = export

    async def everything(self, request: Request) -> Response:
        return await self._download(request, None)

    async def session(self, request: Request) -> Response:
        return await self._download(request, request.path_params["id"])

    async def _download(self, request: Request, session_id: str | None) -> Response:
        name = request.query_params.get("format", "jsonl")
        if self._export is None or name not in FORMATS:
            raise HTTPException(404, f"There is no such format; there are {', '.join(FORMATS)}.")
        disposition = f'attachment; filename="{file_name(name, session_id)}"'
        headers = {"Content-Type": FORMATS[name].media_type, "Content-Disposition": disposition}
        if request.method == "HEAD":
            return Response(headers=headers)
        try:
            pieces = await run_in_threadpool(self._export, session_id, name)
        except SessionNotFound:
            raise HTTPException(404, "No run has this id.") from None
        except PyjamaError as error:
            raise HTTPException(503, str(error)) from None
        return StreamingResponse(pieces, headers=headers)


async def _token_in_body(request: Request) -> str:
    """The ``token`` in the request's body: a small JSON object, sent without dawdling."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _LONGEST_BODY:
                    raise HTTPException(413, "That is too much.")
    except TimeoutError:
        raise HTTPException(408, "That took too long.") from None
    try:
        token = json.loads(body)["token"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise HTTPException(400, 'Send {"token": "…"}.') from None
    return token if isinstance(token, str) else ""


def _text(view: dict[str, Any]) -> bytes:
    return json.dumps(view, separators=(",", ":")).encode("ascii")


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _error(status: int, detail: str) -> Response:
    return _json(_text({"error": detail}), status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _server_error(request: Request, error: Exception) -> Response:
    return _error(500, f"The dashboard could not answer: {type(error).__name__}.")
