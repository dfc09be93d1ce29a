"""Access control: the middleware in front of every route, which refuses requests that do not come from your browser.

- The Host header must name this machine. This stops DNS rebinding, where another site's name points to 127.0.0.1.
- Requests that a page of another site makes are refused.
- A dashboard that is open to the network requires its token instead of the host name.
- Behind a reverse proxy, the names in ``allowed_hosts`` are accepted too; they require the token unless the proxy is
  trusted.
- Every response forbids scripts, styles and connections from anywhere else.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyjama_instrument.errors import ConfigError
from pyjama_instrument.viewer.labels import join_names

__all__ = ["AccessMiddleware", "AccessRules", "access_rules", "is_loopback", "validate_token"]

_COOKIE = "pyjama-dashboard"
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{22,200}")  # 22 characters of 64 are 132 bits
_SHORT_HEX = re.compile(r"[0-9A-Fa-f-]{0,31}")

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

_OTHER_SITE = "This dashboard refuses requests from pages of other sites."
_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~@:-]+)+/?")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Which requests to accept. Made by :func:`access_rules`."""

    token: str | None = None
    allowed_hosts: frozenset[str] = frozenset()
    root_path: str = ""

    def allows(self, host: str) -> bool:
        """Whether the host is among the allowed ones, with or without its port."""
        return host.lower() in self.allowed_hosts or _host_name(host) in self.allowed_hosts


def access_rules(
    token: object = None, allowed_hosts: Iterable[str] = (), root_path: object = "", *, trust_proxy: bool = False
) -> AccessRules:
    """Check the settings and make the rules of them.

    Args:
        token: the secret that every request must contain; None for a dashboard that only this machine can reach.
        allowed_hosts: further host names of the dashboard, such as ``agents.example`` or ``localhost:8888``.
        root_path: the path at which a proxy serves the dashboard, such as ``/proxy/8080``.
        trust_proxy: requests for an allowed host need no token.

    Raises:
        ConfigError: a value is invalid, or there are allowed hosts and neither a token nor ``trust_proxy``.
    """
    hosts = frozenset(_validate_host(host) for host in _as_list(allowed_hosts))
    checked = validate_token(token)
    if hosts and checked is None and not trust_proxy:
        raise ConfigError(
            f"with the allowed host {join_names(sorted(hosts))}, other machines can reach the dashboard: it needs a "
            "token (PYJAMA_TOKEN). If the proxy already checks who has access, set trust_proxy=True (--trust-proxy)"
        )
    if trust_proxy and not hosts:
        raise ConfigError("trust_proxy (--trust-proxy) needs the proxy's host name: set allowed_hosts (--allowed-host)")
    return AccessRules(checked, hosts, _validate_root_path(root_path))


class AccessMiddleware:
    """An ASGI application that passes on what the rules accept and refuses the rest."""

    def __init__(self, inner: ASGIApp, rules: AccessRules | None = None) -> None:
        self._inner = inner
        self._rules = rules or AccessRules()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. It may contain the root path or not, since some proxies strip it."""
        root, path = self._rules.root_path, scope["path"]
        if root and path.startswith(f"{root}/"):
            scope = {**scope, "path": path.removeprefix(root)}
        answer = self._refusal(Headers(scope=scope), scope) or self._inner
        await answer(scope, receive, _with_security_headers(send))

    def _refusal(self, headers: Headers, scope: Scope) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_known_host(hosts[0]):
            names = ["127.0.0.1", "localhost", "[::1]", *sorted(self._rules.allowed_hosts)]
            return _error_response(
                403,
                f"This dashboard can be opened only under the host names {join_names(names, len(names))}. "
                "To allow another one, start it with --allowed-host.",
            )
        if not _is_same_origin_read(headers, scope) and not all(
            self._is_own_origin(origin.lower(), hosts[0].lower()) for origin in origins
        ):
            return _error_response(403, _OTHER_SITE)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_link_navigation(
            headers, scope
        ):
            return _error_response(403, _OTHER_SITE)
        if scope["path"] == self._rules.root_path != "":
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{self._rules.root_path}/{'?' if query else ''}{query}", 307)
        return None if self._rules.token is None else self._check_token(self._rules.token, headers, scope)

    def _is_known_host(self, host: str) -> bool:
        """Whether the name is this machine's or an allowed one. With a token and no allowed hosts, any name is."""
        if not _HOST.fullmatch(host):
            return False
        is_known = _is_this_machine(host) or self._rules.allows(host)
        return is_known or (self._rules.token is not None and not self._rules.allowed_hosts)

    def _is_own_origin(self, origin: str, host: str) -> bool:
        """Whether the origin is the dashboard itself: an allowed host, or the one that the request names."""
        scheme, _, name = origin.partition("://")
        if scheme not in ("http", "https") or not _HOST.fullmatch(name):
            return False
        return self._rules.allows(name) or (scheme == "http" and name == host)

    def _check_token(self, token: str, headers: Headers, scope: Scope) -> Response | None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] == "/" and any(_matches(each, token) for each in given):
            return _set_cookie(token, is_encrypted=headers.get("x-forwarded-proto", "").lower() == "https")
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if _matches(bearer, token) or _matches(_cookie_token(headers), token):
            return None
        return _error_response(401, "This dashboard needs a token. Open its address with ?token=… at the end.")


def _matches(given: str, token: str) -> bool:
    """Whether they are equal, compared in constant time."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode("ascii"))


def _set_cookie(token: str, *, is_encrypted: bool) -> Response:
    """A redirect to the page without the token in its address, with a cookie that no script and no other site can use.

    The redirect and the cookie's path are relative, since a proxy may serve the page at another path. A cookie without
    a path is sent to the page's directory only.
    """
    answer = RedirectResponse("./", 303)
    answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict", path=None, secure=is_encrypted)
    return answer


def _cookie_token(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _error_response(status: int, why: str) -> Response:
    return Response(json.dumps({"error": why}), status, media_type="application/json")


def _with_security_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            MutableHeaders(scope=message).update(_HEADERS | {"Date": formatdate(usegmt=True)})
        await send(message)

    return sending


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    match = _HOST.fullmatch(host)
    return match["name"].lower() if match else ""


def _is_this_machine(host: str) -> bool:
    name = _host_name(host).strip("[]")
    return name == "localhost" or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Whether this is an address that only this machine can reach."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_link_navigation(headers: Headers, scope: Scope) -> bool:
    """Whether somebody followed a link to the page; the page that holds the link can neither read nor frame it."""
    navigated = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return navigated and scope["path"] == "/" and scope["method"] in ("GET", "HEAD")


def _is_same_origin_read(headers: Headers, scope: Scope) -> bool:
    """Whether the browser states that the dashboard's own page reads from it; then Origin need not match Host.

    A proxy may have changed Host. After DNS rebinding the browser states the same, so that Host is checked as well.
    """
    return headers.getlist("sec-fetch-site") == ["same-origin"] and scope["method"] in ("GET", "HEAD")


def validate_token(token: object) -> str | None:
    """The token, if it is hard enough to guess.

    Raises:
        ConfigError: it is too short, or contains characters that do not fit into an address.
    """
    if token is None:
        return None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or _SHORT_HEX.fullmatch(token):
        raise ConfigError(
            "the dashboard's token (PYJAMA_TOKEN or token=) must have at least 128 bits: 22 or more letters, digits "
            "or -._~ (32 or more if it is hexadecimal). Create one with:  "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def _as_list(hosts: object) -> list[object]:
    if isinstance(hosts, str) or not isinstance(hosts, Iterable):
        raise ConfigError(f"allowed_hosts must be a list of host names such as ['agents.example'], not {hosts!r}")
    return list(hosts)


def _validate_host(host: object) -> str:
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise ConfigError(
            f"invalid allowed host {host!r}: use a name such as agents.example, with or without a port, and without "
            "https:// or a path"
        )
    return host.lower()


def _validate_root_path(path: object) -> str:
    if path in ("", "/"):
        return ""
    if not isinstance(path, str) or not _ROOT_PATH.fullmatch(path):
        raise ConfigError(
            f"invalid root path {path!r}: use the path at which a proxy serves the dashboard, such as '/proxy/8080'"
        )
    return path.rstrip("/")
