"""The dashboard's web application: its routes, behind access control.

Only ``POST /api/clear`` changes anything, and only if the application was given a ``clear`` function. It requires a
JSON body with a token that is new at each start. No path of a request reaches the file system.
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
from pyjama_instrument.reader import Reader
from pyjama_instrument.viewer.access_control import AccessMiddleware, AccessRules, access_rules
from pyjama_instrument.viewer.diagram import mermaid
from pyjama_instrument.viewer.error_reporting import is_client_error, log_once
from pyjama_instrument.viewer.labels import join_names
from pyjama_instrument.viewer.live_updates import LiveUpdates, TooManyStreams
from pyjama_instrument.viewer.query_parameters import parse_query_parameters
from pyjama_instrument.viewer.reader_thread import ReaderThread
from pyjama_instrument.viewer.run_view_cache import RunViewCache
from pyjama_instrument.viewer.spans import child_run_spans, span_details
from pyjama_instrument.viewer.steps import step_states
from pyjama_instrument.viewer.view_builder import older_entries

__all__ = ["DashboardApp", "create_app"]

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MAX_BODY_BYTES = 4096
_BODY_SECONDS = 5.0
_CURSOR = re.compile(r"(?P<ts>[0-9]{1,19})\.(?P<key>[ -~]{0,80})")


class DashboardApp:
    """The ASGI application: the routes behind access control. ``close()`` ends its streams."""

    def __init__(self, routes: ASGIApp, live: LiveUpdates, sources: Iterable[ReaderThread], rules: AccessRules) -> None:
        self._guarded = AccessMiddleware(routes, rules)
        self._routes = routes
        self._live = live
        self._sources = tuple(sources)
        self.has_token = rules.token is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._guarded if scope["type"] == "http" else self._routes
        try:
            await answer(scope, receive, send)
        except Exception as error:  # the client has received an error response, or its connection is closed
            if not is_client_error(error):
                log_once("a request failed", error)

    def start(self) -> None:
        """Start the readers' threads."""
        for source in self._sources:
            source.start()

    def close(self) -> None:
        """End the event streams. Call it in the event loop's thread."""
        self._live.close()

    def stop(self) -> None:
        """End the readers' threads. Call it when the event loop has ended."""
        for source in self._sources:
            source.close()


# ── the routes ──────────────────────────────────────────────────────────────────────────────────────────


class _AnyTextConvertor(Convertor[str]):
    """Any text, including slashes (as with ``path``) and line breaks."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _AnyTextConvertor())


def create_app(
    reader_factory: Callable[[], Reader],
    *,
    store: str | None = None,
    clear: Callable[[], None] | None = None,
    export: Callable[[str | None, str], Iterator[bytes]] | None = None,
    token: str | None = None,
    allowed_hosts: Iterable[str] = (),
    root_path: str = "",
    trust_proxy: bool = False,
) -> DashboardApp:
    """The dashboard on top of the readers that ``reader_factory`` makes.

    Args:
        reader_factory: makes a reader for a thread of its own. It is called twice: reading a long run must not delay
            the live view.
        store: the directory's name, shown on the page.
        clear: sets all totals to zero. Without it, the page can change nothing.
        export: exports a session, or the whole store if the id is None, in a format. Without it, the page offers no
            downloads.
        token: as for :func:`~pyjama_instrument.viewer.access_control.access_rules`, like the arguments after it.
        allowed_hosts: further host names of the dashboard.
        root_path: the path at which a proxy serves the dashboard.
        trust_proxy: requests for an allowed host need no token.

    Raises:
        ConfigError: the token is too easy to guess or missing, or a host name or the path is invalid.
    """
    rules = access_rules(token, allowed_hosts, root_path, trust_proxy=trust_proxy)
    overview, runs = ReaderThread(reader_factory, "live"), ReaderThread(reader_factory, "runs")
    live = LiveUpdates(overview, store, clearable=clear is not None)
    routes = _routes(_ReadEndpoints(live, overview, runs), _ClearEndpoints(runs, clear), _ExportEndpoints(export))
    inner = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _server_error})
    inner.router.redirect_slashes = False
    return DashboardApp(inner, live, (overview, runs), rules)


def _routes(read: _ReadEndpoints, clear: _ClearEndpoints, export: _ExportEndpoints) -> list[Route]:
    return [
        Route("/", read.index),
        Route("/static/{name}", read.static),
        Route("/api/data", read.data),
        Route("/api/view", read.view),
        Route("/api/stream", read.stream),
        Route("/api/activity", read.activity),
        Route("/api/token", clear.token),
        Route("/api/clear", clear.clear, methods=["POST"]),
        Route("/api/export", export.everything),
        Route("/api/agent/{id:anything}/diagram", read.diagram),
        Route("/api/session/{id}/view", read.session_view),
        Route("/api/session/{id}/span", read.session_span),
        Route("/api/session/{id}/export", export.session),
        Route("/api/session/{id}", read.session),
    ]


class _ReadEndpoints:
    """The endpoints that only read."""

    def __init__(self, live: LiveUpdates, overview: ReaderThread, runs: ReaderThread) -> None:
        self._live = live
        self._overview = overview
        self._runs = runs
        self._run_views = RunViewCache()
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
        return _json_response(await self._overview.run(lambda: self._overview.dashboard().to_json().encode()))

    async def view(self, request: Request) -> Response:
        return _json_response(await self._live.view(parse_query_parameters(request.query_params)))

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        query = parse_query_parameters(request.query_params)
        try:
            self._live.check_capacity(query)
        except TooManyStreams:
            raise HTTPException(503, "Too many pages are open: this one polls every two seconds instead.") from None
        # Without the header, nginx buffers events instead of passing them on.
        return StreamingResponse(
            self._live.stream(query), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def activity(self, request: Request) -> Response:
        query = parse_query_parameters(request.query_params)
        before = _CURSOR.fullmatch(request.query_params.get("before", ""))
        if before is None:
            raise HTTPException(400, "Set the parameter “before” to the value of “older” in the previous response.")
        cursor = int(before["ts"]), before["key"]
        return _json_response(await self._runs.run(lambda: _to_json(older_entries(self._runs, query, cursor))))

    async def diagram(self, request: Request) -> Response:
        data = await self._overview.run(self._overview.dashboard)
        agent = data.agents.get(request.path_params["id"])
        if agent is None:
            raise HTTPException(404, "No agent has this name.")
        return PlainTextResponse(mermaid(step_states(agent)))

    async def session(self, request: Request) -> Response:
        return _json_response(await self._runs.run(lambda: self._tree(request.path_params["id"]).to_json().encode()))

    async def session_view(self, request: Request) -> Response:
        session_id, since = request.path_params["id"], request.query_params.get("since", "")
        data = await self._overview.run(self._overview.dashboard)
        return _json_response(await self._runs.run(lambda: self._session_view(session_id, data, since)))

    async def session_span(self, request: Request) -> Response:
        session_id, key = request.path_params["id"], request.query_params.get("key", "")
        tree = await self._runs.run(lambda: self._tree(session_id))
        children: list[Span] = []
        if key in tree.child_sessions:
            data = await self._overview.run(self._overview.dashboard)
            children = child_run_spans(tree, data.sessions)
        span = await self._runs.run(lambda: span_details(tree, key, children))
        if span is None:
            raise HTTPException(404, "No span has this id.")
        return _json_response(_to_json(span))

    def _tree(self, session_id: str) -> SessionTree:
        try:
            return self._runs.session(session_id)
        except SessionNotFound:
            raise HTTPException(404, "No run has this id.") from None

    def _session_view(self, session_id: str, data: DashboardData, since: str) -> bytes:
        return _to_json(self._run_views.view(self._tree(session_id), data.sessions, data.timestamp, since))


class _ClearEndpoints:
    """The endpoints that set all totals to zero. The token stops other sites: they cannot read it."""

    def __init__(self, source: ReaderThread, clear: Callable[[], None] | None) -> None:
        self._source = source
        self._clear = clear
        self._token = secrets.token_urlsafe(32)

    async def token(self, request: Request) -> Response:
        if self._clear is None:
            raise HTTPException(404, "This dashboard is read-only.")
        return _json_response(_to_json({"token": self._token}))

    async def clear(self, request: Request) -> Response:
        if self._clear is None:
            raise HTTPException(404, "This dashboard is read-only.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "The request's Content-Type must be application/json.")
        given = await _read_token(request)
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode("ascii")):
            raise HTTPException(403, "The dashboard was restarted after this page was loaded. Reload the page.")
        try:
            await self._source.run(self._clear)
        except (PyjamaError, OSError) as error:
            log_once("the store cannot be cleared", error)
            raise HTTPException(503, f"The store cannot be cleared: {error}") from error
        return _json_response(_to_json({"cleared": True}))


class _ExportEndpoints:
    """Downloads in the export formats. Each is produced while it is sent, in a thread of its own."""

    def __init__(self, export: Callable[[str | None, str], Iterator[bytes]] | None) -> None:
        self._export = export

    async def everything(self, request: Request) -> Response:
        return await self._download(request, None)

    async def session(self, request: Request) -> Response:
        return await self._download(request, request.path_params["id"])

    async def _download(self, request: Request, session_id: str | None) -> Response:
        name = request.query_params.get("format", "jsonl")
        if self._export is None or name not in FORMATS:
            raise HTTPException(404, f"Unknown format. The formats are {join_names(list(FORMATS), len(FORMATS))}.")
        disposition = f'attachment; filename="{file_name(name, session_id)}"'
        headers = {"Content-Type": FORMATS[name].media_type, "Content-Disposition": disposition}
        if request.method == "HEAD":
            return Response(headers=headers)
        try:
            chunks = await run_in_threadpool(self._export, session_id, name)
        except SessionNotFound:
            raise HTTPException(404, "No run has this id.") from None
        except PyjamaError as error:
            raise HTTPException(503, str(error)) from None
        return StreamingResponse(chunks, headers=headers)


async def _read_token(request: Request) -> str:
    """The ``token`` in the request's body, which must be a small JSON object and arrive quickly."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise HTTPException(413, "The request's body is too large.")
    except TimeoutError:
        raise HTTPException(408, "The request's body took too long to arrive.") from None
    try:
        token = json.loads(body)["token"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise HTTPException(400, 'The request\'s body must be {"token": "…"}.') from None
    return token if isinstance(token, str) else ""


def _to_json(view: dict[str, Any]) -> bytes:
    return json.dumps(view, separators=(",", ":")).encode("ascii")


def _json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _error_response(status: int, detail: str) -> Response:
    return _json_response(_to_json({"error": detail}), status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error_response(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _server_error(request: Request, error: Exception) -> Response:
    return _error_response(500, f"The dashboard failed to answer ({type(error).__name__}). See the program's log.")
