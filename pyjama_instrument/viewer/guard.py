"""Who may ask: the guard in front of every route.

Only this machine's own browser tab may: the Host header must name this machine (a page of another name, rebound to
127.0.0.1, is refused) and requests that another site's page makes are refused. A dashboard that is open to the
network asks for its token instead of the host's name. Behind a reverse proxy it answers to the names it was given as
well, and asks for its token unless the proxy is trusted. Every answer forbids scripts, styles and connections from
anywhere else.
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

__all__ = ["Access", "Guard", "access", "checked_token", "is_loopback"]

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

_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~@:-]+)+/?")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in, and by which address. Made by :func:`access`."""

    token: str | None = None
    allowed_hosts: frozenset[str] = frozenset()
    root_path: str = ""

    def allows(self, host: str) -> bool:
        """Whether the dashboard was told that it is known by this name, with its port or without."""
        return host.lower() in self.allowed_hosts or _name(host) in self.allowed_hosts


def access(
    token: object = None, allowed_hosts: Iterable[str] = (), root_path: object = "", *, trust_proxy: bool = False
) -> Access:
    """What the guard goes by.

    Args:
        token: what whoever asks must know; None for a dashboard that only this machine can reach.
        allowed_hosts: further names by which the dashboard is known, such as ``agents.example`` or ``localhost:8888``.
        root_path: the path below which a proxy shows it, such as ``/proxy/8080``.
        trust_proxy: whoever asks by one of those names needs no token.

    Raises:
        ConfigError: one of them makes no sense, or there are names and neither a token nor trust.
    """
    hosts = frozenset(_checked_host(host) for host in _listed(allowed_hosts))
    checked = checked_token(token)
    if hosts and checked is None and not trust_proxy:
        raise ConfigError(
            f"a dashboard that answers to {', '.join(sorted(hosts))} can be reached from elsewhere and needs a token. "
            "If the proxy in front of it lets in nobody but you, say so with trust_proxy=True (--trust-proxy)"
        )
    if trust_proxy and not hosts:
        raise ConfigError("trust_proxy (--trust-proxy) needs the proxy's name: set allowed_hosts (--allowed-host)")
    return Access(checked, hosts, _checked_root(root_path))


class Guard:
    """An application behind the guard."""

    def __init__(self, inner: ASGIApp, access: Access | None = None) -> None:
        self._inner = inner
        self._access = access or Access()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it. Proxies that keep the root path and those that strip it are alike."""
        root, path = self._access.root_path, scope["path"]
        if root and path.startswith(f"{root}/"):
            scope = {**scope, "path": path.removeprefix(root)}
        answer = self._refusal(Headers(scope=scope), scope) or self._inner
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, headers: Headers, scope: Scope) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._answers_to(hosts[0]):
            names = ["127.0.0.1", "localhost", "[::1]", *sorted(self._access.allowed_hosts)]
            return _refused(403, f"This dashboard answers only to {', '.join(names[:-1])} and {names[-1]}.")
        if not _is_read_by_its_page(headers, scope) and not all(
            self._is_own(origin.lower(), hosts[0].lower()) for origin in origins
        ):
            return _refused(403, "This dashboard does not answer to pages of other sites.")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_followed_link(
            headers, scope
        ):
            return _refused(403, "This dashboard does not answer to pages of other sites.")
        if scope["path"] == self._access.root_path != "":
            query = scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{self._access.root_path}/{'?' if query else ''}{query}", 307)
        return None if self._access.token is None else self._ask_token(self._access.token, headers, scope)

    def _answers_to(self, host: str) -> bool:
        """To this machine and the names it was given; if it was given none, the token is enough."""
        if not _HOST.fullmatch(host):
            return False
        is_known = _is_this_machine(host) or self._access.allows(host)
        return is_known or (self._access.token is not None and not self._access.allowed_hosts)

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page of this origin is ours. Proxies pass the name on as it was asked for, or put their own."""
        scheme, _, name = origin.partition("://")
        if scheme not in ("http", "https") or not _HOST.fullmatch(name):
            return False
        return self._access.allows(name) or (scheme == "http" and name == host)

    def _ask_token(self, token: str, headers: Headers, scope: Scope) -> Response | None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] == "/" and any(_same(each, token) for each in given):
            return _remembering(token, is_encrypted=headers.get("x-forwarded-proto", "").lower() == "https")
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if _same(bearer, token) or _same(_cookie(headers), token):
            return None
        return _refused(401, "Open the dashboard by its address with ?token=… at the end, as it was given to you.")


def _same(given: str, token: str) -> bool:
    """Compared in constant time."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode("ascii"))


def _remembering(token: str, *, is_encrypted: bool) -> Response:
    """To the page without the token in its address, with a cookie that no script and no other site can use.

    Both are relative to the address that the browser has asked for, which a proxy may have changed on the way: without
    a path of its own, a cookie is sent to the page's directory only.
    """
    answer = RedirectResponse("./", 303)
    answer.set_cookie(_COOKIE, token, httponly=True, samesite="strict", path=None, secure=is_encrypted)
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


def _name(host: str) -> str:
    """The name in a Host header that may carry a port."""
    match = _HOST.fullmatch(host)
    return match["name"].lower() if match else ""


def _is_this_machine(host: str) -> bool:
    name = _name(host).strip("[]")
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


def _is_read_by_its_page(headers: Headers, scope: Scope) -> bool:
    """The browser vouches that the page is of the server that it asks; which that is, a proxy may have hidden from us.

    A page that is rebound to this machine is of that server, too: it is the name in Host that gives it away.
    """
    return headers.getlist("sec-fetch-site") == ["same-origin"] and scope["method"] in ("GET", "HEAD")


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


def _listed(hosts: object) -> list[object]:
    if isinstance(hosts, str) or not isinstance(hosts, Iterable):
        raise ConfigError(f"allowed_hosts must be names such as ['agents.example'], not {hosts!r}")
    return list(hosts)


def _checked_host(host: object) -> str:
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise ConfigError(
            f"an allowed host is a name such as agents.example, with or without a port, not {host!r}: "
            "leave out https:// and the path"
        )
    return host.lower()


def _checked_root(path: object) -> str:
    if path in ("", "/"):
        return ""
    if not isinstance(path, str) or not _ROOT_PATH.fullmatch(path):
        raise ConfigError(
            f"the root path must be the beginning of an address's path such as '/proxy/8080', not {path!r}"
        )
    return path.rstrip("/")
