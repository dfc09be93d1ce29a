"""The dashboard's web application: routes, and the guard in front of them.

Nothing here changes any state. Only this machine's own browser tab may ask: the Host header must name this
machine (a page of another name, rebound to 127.0.0.1, is refused) and requests that another site's page
makes are refused. Every answer forbids scripts, styles and connections from anywhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.errors import SessionNotFound
from pyjama_instrument.viewer.diagram import mermaid
from pyjama_instrument.viewer.live import Live, ReaderLike, Source
from pyjama_instrument.viewer.sessions import OpenSessions
from pyjama_instrument.viewer.spans import span_of
from pyjama_instrument.viewer.steps import step_states

__all__ = ["DashboardApp", "create_app"]

_STATIC = Path(__file__).parent / "static"
_ASSETS = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "favicon.svg": "image/svg+xml",
    "app.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "overview.js": "text/javascript; charset=utf-8",
    "session.css": "text/css; charset=utf-8",
    "session.js": "text/javascript; charset=utf-8",
    "time.js": "text/javascript; charset=utf-8",
    "waterfall.js": "text/javascript; charset=utf-8",
}

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")


# ── the guard ───────────────────────────────────────────────────────────────────────────────────────────


class DashboardApp:
    """The ASGI application: the routes behind the guard. ``close()`` ends its streams."""

    def __init__(self, routes: ASGIApp, live: Live, sources: Iterable[Source]) -> None:
        self._routes = routes
        self._live = live
        self._sources = tuple(sources)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        refusal = _refusal(Headers(scope=scope), scope["path"])
        answer = self._routes if refusal is None else _error(403, refusal)
        await answer(scope, receive, _with_headers(send))

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


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return sending


def _refusal(headers: Headers, path: str) -> str | None:
    """Why this request is refused, or None."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or not _is_this_machine(hosts[0]):
        return "This dashboard answers only to 127.0.0.1, localhost and [::1]."
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
        return "This dashboard does not answer to pages of other sites."
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_followed_link(headers, path):
        return "This dashboard does not answer to pages of other sites."
    return None


def _is_this_machine(host: str) -> bool:
    match = _HOST.fullmatch(host)
    name = match["name"].strip("[]").lower() if match else ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_followed_link(headers: Headers, path: str) -> bool:
    """A person following a link to the page from elsewhere; nothing of it can be read or framed there."""
    return path == "/" and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


# ── the routes ──────────────────────────────────────────────────────────────────────────────────────────


class _AnythingConvertor(Convertor[str]):
    """Any text at all: slashes, as ``path`` allows, and line breaks too."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _AnythingConvertor())


def create_app(reader_factory: Callable[[], ReaderLike], *, store: str | None = None) -> DashboardApp:
    """The dashboard over the readers that ``reader_factory`` makes.

    Args:
        reader_factory: makes a reader; it is used in a thread of its own. Two are made at most: one for the
            live view, one for single runs, so that a long run being read does not hold up the live view.
        store: the directory's name, to be shown on the page.
    """
    overview, runs = Source(reader_factory, "live"), Source(reader_factory, "runs")
    live = Live(overview, store)
    pages = _Pages(live, overview, runs)
    routes = [
        Route("/", pages.index),
        Route("/static/{name}", pages.static),
        Route("/api/data", pages.data),
        Route("/api/view", pages.view),
        Route("/api/stream", pages.stream),
        Route("/api/agent/{id:anything}/diagram", pages.diagram),
        Route("/api/session/{id}/view", pages.session_view),
        Route("/api/session/{id}/span", pages.session_span),
        Route("/api/session/{id}", pages.session),
    ]
    handlers = {HTTPException: _http_error, Exception: _server_error}
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False
    return DashboardApp(inner, live, (overview, runs))


class _Pages:
    """The endpoints. All of them only read."""

    def __init__(self, live: Live, overview: Source, runs: Source) -> None:
        self._live = live
        self._overview = overview
        self._runs = runs
        self._open = OpenSessions()
        self._assets = {name: (_STATIC / name).read_bytes() for name in _ASSETS}

    async def index(self, request: Request) -> Response:
        return self._asset("index.html")

    async def static(self, request: Request) -> Response:
        return self._asset(request.path_params["name"])

    def _asset(self, name: str) -> Response:
        if name not in self._assets:
            raise HTTPException(404)
        return Response(self._assets[name], headers={"Content-Type": _ASSETS[name]})

    async def data(self, request: Request) -> Response:
        return _json(await self._overview.run(lambda: self._overview.dashboard().to_json().encode()))

    async def view(self, request: Request) -> Response:
        return _json(await self._live.view())

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(self._live.watch(), media_type="text/event-stream")

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
        span = await self._runs.run(lambda: span_of(self._tree(session_id), key))
        if span is None:
            raise HTTPException(404, "No span of that id is known.")
        return _json(_text(span))

    def _tree(self, session_id: str) -> SessionTree:
        try:
            return self._runs.reader().session(session_id)
        except SessionNotFound:
            raise HTTPException(404, "No session of that id is known.") from None

    def _session_view(self, session_id: str, data: DashboardData, since: str) -> bytes:
        return _text(self._open.view(self._tree(session_id), data.sessions, data.timestamp, since))


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
