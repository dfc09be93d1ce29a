"""Who may ask: the guard in front of every route.

Only this machine's own browser tab may: the Host header must name this machine (a page of another name, rebound to
127.0.0.1, is refused) and requests that another site's page makes are refused. A dashboard that is open to the
network asks for its token instead of the host's name. Every answer forbids scripts, styles and connections from
anywhere else.
"""

from __future__ import annotations

import json
import re
import secrets
from email.utils import formatdate
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyjama_instrument.errors import ConfigError

__all__ = ["Guard", "checked_token", "is_loopback"]

_COOKIE = "pyjama-dashboard"
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{22,200}")  # 22 characters of 64 are 132 bits
_FEW_DIGITS = re.compile(r"[0-9A-Fa-f-]{0,31}")

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


class Guard:
    """An application behind the guard.

    Args:
        inner: the routes.
        token: what whoever asks must know; None for a dashboard that only this machine can reach.
    """

    def __init__(self, inner: ASGIApp, token: str | None = None) -> None:
        self._inner = inner
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        answer = self._refusal(Headers(scope=scope), scope) or self._inner
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, headers: Headers, scope: Scope) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]) or not (self._token or _is_this_machine(hosts[0])):
            return _refused(403, "This dashboard answers only to 127.0.0.1, localhost and [::1].")
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return _refused(403, "This dashboard does not answer to pages of other sites.")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_followed_link(
            headers, scope
        ):
            return _refused(403, "This dashboard does not answer to pages of other sites.")
        return None if self._token is None else self._ask_token(self._token, headers, scope)

    def _ask_token(self, token: str, headers: Headers, scope: Scope) -> Response | None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] == "/" and any(_same(each, token) for each in given):
            return _remembering(token)
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if _same(bearer, token) or _same(_cookie(headers), token):
            return None
        return _refused(401, "Open the dashboard by its address with ?token=… at the end, as it was given to you.")


def _same(given: str, token: str) -> bool:
    """Compared in constant time."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode("ascii"))


def _remembering(token: str) -> Response:
    """To the page without the token in its address, with a cookie that no script and no other site can use."""
    answer = RedirectResponse("/", 303)
    answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict", path="/")
    return answer


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _refused(status: int, why: str) -> Response:
    return Response(json.dumps({"error": why}), status, media_type="application/json")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            MutableHeaders(scope=message).update(_HEADERS | {"Date": formatdate(usegmt=True)})
        await send(message)

    return sending


def _is_this_machine(host: str) -> bool:
    match = _HOST.fullmatch(host)
    name = match["name"].strip("[]").lower() if match else ""
    return name == "localhost" or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Whether this is an address of this machine that no other can reach."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_followed_link(headers: Headers, scope: Scope) -> bool:
    """A person following a link to the page from elsewhere; nothing of it can be read or framed there."""
    navigated = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return navigated and scope["path"] == "/" and scope["method"] in ("GET", "HEAD")


def checked_token(token: object) -> str | None:
    """The token, if it is one that cannot be guessed.

    Raises:
        ConfigError: it is too short or holds characters that do not fit into an address.
    """
    if token is None:
        return None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or _FEW_DIGITS.fullmatch(token):
        raise ConfigError(
            "the dashboard's token must be at least 128 bits in letters, digits and -._~ "
            "(22 characters, or 32 if hexadecimal): make one with  python -c 'import secrets; "
            "print(secrets.token_urlsafe())'"
        )
    return token
