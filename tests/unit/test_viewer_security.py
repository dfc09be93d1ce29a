"""Who is answered by the dashboard, what can be changed, and what a rude client can cost."""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import viewer
from pyjama_instrument.errors import ConfigError, ViewerError
from pyjama_instrument.viewer import Dashboard, connections, start_dashboard
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.server import serve
from tests.viewer.fakes import FakeReader, data_of, run_of, session_id

DEADLINE = 20.0  # a hang guard
SECRET = "the-secret-agent"
STATIC = Path(viewer.__file__).parent / "static"
TOKEN = secrets.token_urlsafe(16)

ROUTES = [
    "/", "/static/app.js", "/api/data", "/api/view", "/api/view?page=activity", "/api/stream", "/api/token",
    "/api/clear", "/api/activity?before=9.x", f"/api/agent/{SECRET}/diagram", f"/api/session/{session_id(0)}",
    f"/api/session/{session_id(0)}/view", f"/api/session/{session_id(0)}/export?format=csv", "/api/export", "/nothing",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
# The port is filled in. Each of these is a page of somebody else's, or somebody who says so.
HOSTILE_HEADERS: list[dict[str, str]] = [
    {"Host": "evil.example"},
    {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1.evil.example:{port}"},
    {"Host": "localhost:{port}.evil.example"},
    {"Host": "169.254.169.254"},
    {"Host": ""},
    {"Origin": "null"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:1"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "cross-site"},
]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Shop:
    """A dashboard whose data are secret and that can be cleared."""

    def __init__(self, token: str | None = None, host: str = "127.0.0.1") -> None:
        self.cleared = 0
        self.reader = FakeReader(data_of(run_of(SECRET, workflow=["a"])))
        self.dashboard: Dashboard = serve(create_app(lambda: self.reader, clear=self._clear, token=token), 0, host=host)

    def _clear(self) -> None:
        self.cleared += 1

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        port = self.dashboard.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        try:
            filled = {name: value.replace("{port}", str(port)) for name, value in (headers or {}).items()}
            connection.request(method, path, body=body, headers=filled)
            answer = connection.getresponse()
            text = b"" if answer.headers["Content-Type"] == "text/event-stream; charset=utf-8" else answer.read()
            return answer.status, text, answer.headers
        finally:
            connection.close()

    def token(self) -> str:
        return str(json.loads(self.ask("/api/token")[1])["token"])

    def clear(self, **fields: Any) -> int:
        body = json.dumps({"token": self.token()} | fields).encode()
        return self.ask("/api/clear", "POST", {"Content-Type": "application/json"}, body)[0]


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.dashboard.stop()


# ── foreign pages ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=lambda headers: " ".join(headers.values()) or "empty")
def test_a_foreign_origin_gets_no_data_and_changes_nothing_by_any_route_and_method(
    shop: Shop, headers: dict[str, str]
) -> None:
    body = json.dumps({"token": shop.token()}).encode()  # even if it knew the token
    for path, method in itertools.product(ROUTES, METHODS):
        sent = {"Content-Type": "application/json"} | headers if method != "GET" else headers
        status, text, answered = shop.ask(path, method, sent, body if method in ("POST", "PUT", "PATCH") else None)
        assert status in (400, 403), (path, method)
        assert SECRET.encode() not in text
        assert not [name for name in answered if name.lower().startswith("access-control")]
    assert shop.cleared == 0
    assert shop.reader.polls == 0


@pytest.mark.parametrize("path", ROUTES)
def test_a_read_only_route_answers_no_other_method(shop: Shop, path: str) -> None:
    for method in METHODS[2:]:
        if path == "/api/clear" and method == "POST":
            continue
        status, text, _ = shop.ask(path, method)
        assert status in (404, 405)
        assert SECRET.encode() not in text
    assert shop.cleared == 0


@pytest.mark.parametrize("path", ROUTES)
def test_every_answer_carries_the_policy(shop: Shop, path: str) -> None:
    for headers in ({}, {"Host": "evil.example"}):
        answered = shop.ask(path, "GET", headers)[2]
        assert answered["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert answered["X-Content-Type-Options"] == "nosniff"
        assert answered["Cache-Control"] == "no-store"
        assert answered["Referrer-Policy"] == "no-referrer"
        assert not [name for name in answered if name.lower().startswith("access-control")]


# ── clear ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_itself_can_clear(shop: Shop) -> None:
    own = {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    body = json.dumps({"token": shop.token()}).encode()
    assert shop.ask("/api/clear", "POST", own, body)[0] == 200
    assert shop.cleared == 1


@pytest.mark.parametrize("token", ["", "x" * 43, None, 7, [], {}, "\udcff", "ä"])
def test_clearing_needs_the_token(shop: Shop, token: Any) -> None:
    assert shop.clear(token=token) == 403
    assert shop.cleared == 0


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "text/json"]
)
def test_clearing_needs_a_body_that_no_form_can_send(shop: Shop, kind: str) -> None:
    body = json.dumps({"token": shop.token()}).encode()
    assert shop.ask("/api/clear", "POST", {"Content-Type": kind}, body)[0] == 415
    assert shop.cleared == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"{}", b"\xff", b"[" * 4000, b'{"token"'])
def test_clearing_needs_json(shop: Shop, body: bytes) -> None:
    assert shop.ask("/api/clear", "POST", {"Content-Type": "application/json"}, body)[0] == 400
    assert shop.cleared == 0


def test_a_body_that_is_too_large_is_not_read(shop: Shop) -> None:
    body = b'{"token":"' + b"x" * 100_000 + b'"}'
    assert shop.ask("/api/clear", "POST", {"Content-Type": "application/json"}, body)[0] == 413


def test_each_start_has_a_token_of_its_own(shop: Shop) -> None:
    other = Shop()
    tokens = {shop.token(), other.token()}
    other.dashboard.stop()
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 22  # 128 bits and more


def test_without_the_means_there_is_nothing_to_clear_and_no_token() -> None:
    reader = FakeReader()
    with serve(create_app(lambda: reader), 0) as dashboard:
        shop = Shop.__new__(Shop)
        shop.dashboard = dashboard
        assert shop.ask("/api/token")[0] == 404
        assert shop.ask("/api/clear", "POST", {"Content-Type": "application/json"}, b"{}")[0] == 404


# ── open to the network ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])
def test_another_bind_than_this_machine_is_refused_without_a_token(host: str) -> None:
    with pytest.raises(ViewerError, match="together with a token"):
        start_dashboard(0, host=host)


@pytest.mark.parametrize("token", ["", "short", "a" * 21, "f" * 31, "with space" * 3, "ä" * 30, 7, b"x" * 30])
def test_a_token_that_could_be_guessed_is_refused(token: Any) -> None:
    with pytest.raises(ConfigError, match="128 bits"):
        start_dashboard(0, host="127.0.0.1", token=token)


@pytest.fixture
def open_shop() -> Iterator[Shop]:
    shop = Shop(TOKEN, "127.0.0.1")
    yield shop
    shop.dashboard.stop()


@pytest.mark.parametrize("path", ROUTES)
def test_with_a_token_nothing_is_answered_without_it(open_shop: Shop, path: str) -> None:
    wrong: list[dict[str, str]] = [
        {}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN[:-1]},
        {"Cookie": "pyjama-dashboard="}, {"Cookie": f"pyjama-dashboard={'x' * 22}"}, {"Cookie": f"other={TOKEN}"},
    ]  # fmt: skip
    for headers in wrong:
        status, text, answered = open_shop.ask(path, "GET", headers)
        assert status == 401
        assert SECRET.encode() not in text
        assert TOKEN not in str(answered) + text.decode()


def test_the_token_in_the_address_becomes_a_cookie_that_opens_the_page(open_shop: Shop) -> None:
    status, _, headers = open_shop.ask(f"/?token={TOKEN}")
    assert (status, headers["Location"]) == (303, "./")  # behind a proxy the page may be below a path
    cookie = headers["Set-Cookie"]
    assert "path=" not in cookie.lower()  # then it goes to the page's directory only
    assert "secure" not in cookie.lower()
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert open_shop.ask("/api/data", headers={"Cookie": cookie.partition(";")[0]})[0] == 200
    assert open_shop.ask("/api/data", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert open_shop.ask("/api/data", headers={"Authorization": f"Bearer {TOKEN}", "Host": "laptop.lan:80"})[0] == 200


def test_the_token_does_not_make_up_for_a_foreign_origin(open_shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert open_shop.ask("/api/data", headers=headers)[0] == 403


def test_the_token_is_compared_in_constant_time(open_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("pyjama_instrument.viewer.access_control.secrets.compare_digest", compare)
    open_shop.ask("/api/data", headers={"Authorization": "Bearer guess"})
    assert (b"guess", TOKEN.encode()) in compared


def test_the_tokens_are_never_logged(open_shop: Shop, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    open_shop.ask(f"/?token={TOKEN}")
    open_shop.ask("/api/data", headers={"Authorization": f"Bearer {TOKEN}"})
    open_shop.ask(f"/nothing?token={TOKEN}")
    out, err = capfd.readouterr()
    assert TOKEN not in caplog.text + out + err + repr(open_shop.dashboard)


# ── behind a reverse proxy ──────────────────────────────────────────────────────────────────────────────

NAME = "agents.example"


def behind_proxy(**options: Any) -> Shop:
    shop = Shop.__new__(Shop)
    shop.cleared = 0
    shop.reader = FakeReader(data_of(run_of(SECRET, workflow=["a"])))
    shop.dashboard = serve(create_app(lambda: shop.reader, clear=shop._clear, **options), 0)
    return shop


@pytest.fixture
def proxied() -> Iterator[Shop]:
    shop = behind_proxy(token=TOKEN, allowed_hosts=[NAME, "localhost:8888"], root_path="/proxy/8080")
    yield shop
    shop.dashboard.stop()


@pytest.fixture
def trusted() -> Iterator[Shop]:
    shop = behind_proxy(allowed_hosts=[NAME], trust_proxy=True)
    yield shop
    shop.dashboard.stop()


@pytest.mark.parametrize("host", [NAME, "AGENTS.example", f"{NAME}:443", "localhost:8888", "127.0.0.1:{port}"])
def test_behind_a_proxy_it_answers_to_its_names_and_wants_the_token(proxied: Shop, host: str) -> None:
    assert proxied.ask("/api/data", headers={"Host": host})[0] == 401
    assert proxied.ask("/api/data", headers={"Host": host, "Authorization": f"Bearer {TOKEN}"})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", f"{NAME}.evil.example", f"x{NAME}", "laptop.lan", "", f"{NAME}:x"])
def test_behind_a_proxy_no_other_name_is_answered_even_with_the_token(proxied: Shop, trusted: Shop, host: str) -> None:
    for shop in (proxied, trusted):
        assert shop.ask("/api/data", headers={"Host": host, "Authorization": f"Bearer {TOKEN}"})[0] in (400, 403)


def test_a_trusted_proxy_needs_no_token(trusted: Shop) -> None:
    assert trusted.ask("/api/data", headers={"Host": NAME})[0] == 200


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        (NAME, f"https://{NAME}", True),
        (NAME, f"http://{NAME}", True),
        ("127.0.0.1:{port}", f"https://{NAME}", True),  # a proxy that passes on a name of its own
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", True),
        (NAME, "https://evil.example", False),
        (NAME, f"https://{NAME}.evil.example", False),
        (NAME, f"ftp://{NAME}", False),
        (NAME, "null", False),
        (NAME, "http://127.0.0.1:{port}", False),
        ("127.0.0.1:{port}", "https://127.0.0.1:{port}", False),
        ("127.0.0.1:{port}", "http://localhost:1", False),
    ],
)
def test_behind_a_proxy_only_its_own_pages_can_clear(trusted: Shop, host: str, origin: str, allowed: bool) -> None:
    body = json.dumps({"token": trusted.token()}).encode()
    headers = {"Host": host, "Origin": origin, "Content-Type": "application/json"}
    assert trusted.ask("/api/clear", "POST", headers, body)[0] == (200 if allowed else 403)
    assert trusted.cleared == int(allowed)


def test_a_proxy_that_hides_its_name_shows_the_page_which_cannot_clear_then(shop: Shop) -> None:
    """Browsers name the origin when they load modules, and vouch that it is the page's own."""
    hidden = {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
    assert shop.ask("/static/app.js", headers=hidden)[0] == 200
    assert shop.ask("/static/app.js", headers={**hidden, "Host": NAME})[0] == 403  # rebound to this machine
    body = json.dumps({"token": shop.token()}).encode()
    assert shop.ask("/api/clear", "POST", {**hidden, "Content-Type": "application/json"}, body)[0] == 403
    assert shop.cleared == 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"allowed_hosts": [NAME]}, "needs a token"),
        ({"trust_proxy": True}, "--allowed-host"),
        ({"allowed_hosts": NAME, "token": TOKEN}, "allowed_hosts must be a list of host names"),
        ({"allowed_hosts": 7, "token": TOKEN}, "allowed_hosts must be a list of host names"),
        ({"allowed_hosts": [f"https://{NAME}"], "token": TOKEN}, "without https://"),
        ({"allowed_hosts": [""], "token": TOKEN}, "invalid allowed host"),
        ({"allowed_hosts": [7], "token": TOKEN}, "invalid allowed host"),
        ({"root_path": "proxy"}, "root path"),
        ({"root_path": "//evil.example"}, "root path"),
        ({"root_path": "/a b"}, "root path"),
        ({"root_path": "/a\r\nX: y"}, "root path"),
        ({"root_path": 7}, "root path"),
    ],
)
def test_what_makes_no_sense_behind_a_proxy_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        start_dashboard(0, **options)


@pytest.mark.parametrize("root", ["/proxy/8080", "/proxy/8080/", "/a"])
def test_a_proxy_may_strip_the_path_or_keep_it(root: str) -> None:
    shop, path = behind_proxy(root_path=root), root.rstrip("/")
    for prefix in ("", path):
        assert b"<title>pyjama" in shop.ask(f"{prefix}/")[1]
        assert shop.ask(f"{prefix}/static/app.js")[0] == shop.ask(f"{prefix}/api/data")[0] == 200
    status, _, headers = shop.ask(f"{path}?q=a%20b")
    assert (status, headers["Location"]) == (307, f"{path}/?q=a%20b")
    assert shop.ask(f"{path}x/")[0] == shop.ask(f"/x{path}/")[0] == 404
    shop.dashboard.stop()


def test_below_a_path_the_token_opens_the_page_too(proxied: Shop) -> None:
    over_tls = {"Host": NAME, "X-Forwarded-Proto": "https"}
    assert proxied.ask(f"/proxy/8080?token={TOKEN}", headers=over_tls)[2]["Location"] == f"/proxy/8080/?token={TOKEN}"
    status, _, headers = proxied.ask(f"/proxy/8080/?token={TOKEN}", headers=over_tls)
    assert (status, headers["Location"]) == (303, "./")
    assert "secure" in headers["Set-Cookie"].lower()


def test_no_address_in_the_page_begins_at_the_root_of_the_server() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.findall(r"""["'`(]/(?:api|static)\b[^"'`]*""", text), file.name


# ── the file system ─────────────────────────────────────────────────────────────────────────────────────

MARKER = "pyjama-marker"


def test_no_path_from_a_client_reaches_the_file_system(own_store: Any) -> None:
    touched: list[str] = []
    watching = threading.Event()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching.is_set() and MARKER in repr(arguments) and not event.startswith(("socket.", "http.client.")):
            touched.append(f"{event} {arguments!r}")

    sys.addaudithook(watch)  # cannot be taken back, but falls silent
    with start_dashboard(0) as dashboard:
        shop = Shop.__new__(Shop)
        shop.dashboard = dashboard
        watching.set()
        for path in (
            f"/static/{MARKER}", f"/static/../../{MARKER}", f"/static/%2e%2e%2f{MARKER}", f"/{MARKER}/../../etc/passwd",
            f"/api/session/{MARKER}", f"/api/session/..%2f{MARKER}/view", f"/api/agent/../../{MARKER}/diagram",
            f"/api/activity?before=1.{MARKER}", f"/api/activity?before=1.x&tool=../{MARKER}&q={MARKER}",
            f"/api/view?page=tool&name=/{MARKER}", f"/api/view?page={MARKER}", f"/?home=/{MARKER}",
        ):  # fmt: skip
            assert shop.ask(path)[0] in (200, 400, 404), path
        watching.clear()
    assert touched == []


# ── rude clients ────────────────────────────────────────────────────────────────────────────────────────


def connect(shop: Shop, data: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", shop.dashboard.port), timeout=DEADLINE)
    client.sendall(data)
    return client


def hung_up(client: socket.socket) -> bool:
    """Whether the server ends the connection; waits for it."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def close_all(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


def test_500_silent_connections_do_not_keep_anybody_from_being_answered(shop: Shop) -> None:
    clients = [connect(shop, b"GET /api/data HT" if at % 2 else b"") for at in range(500)]
    assert shop.ask("/api/data")[0] == 200
    assert len(shop.dashboard._server.state.connections) <= connections.MAX_WAITING + 2
    assert hung_up(clients[0])  # who has been silent for longest
    close_all(clients)


@pytest.mark.parametrize("said", [b"", b"GET /api/view HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_header_that_does_not_come_to_an_end_is_not_waited_for(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    shop = Shop()
    with connect(shop, said) as client:
        assert hung_up(client)
    shop.dashboard.stop()


def test_a_header_that_drips_is_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    shop = Shop()
    with connect(shop, b"GET / HTTP/1.1\r\n") as client:
        deadline = time.monotonic() + DEADLINE
        try:
            while time.monotonic() < deadline:
                client.sendall(b"X-A: b\r\n")
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert time.monotonic() < deadline
    shop.dashboard.stop()


def test_the_second_request_of_a_connection_is_not_waited_for_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    shop = Shop()
    with connect(shop, b"GET /static/favicon.svg HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/v") as client:
        assert hung_up(client)
    shop.dashboard.stop()


def test_a_client_that_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    shop = Shop()
    shop.reader.data = data_of(*(run_of("x" * 190, tags={"t": "y" * 60}) for _ in range(300)))
    with connect(shop, b"GET /api/data HTTP/1.1\r\nHost: localhost\r\n\r\n" * 60):
        eventually(lambda: shop.reader.polls > 0)
        eventually(lambda: not shop.dashboard._server.state.connections)
    shop.dashboard.stop()


def test_an_open_stream_is_no_silent_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    shop = Shop()
    with connect(shop, b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n") as stream:
        assert b"retry" in stream.recv(65536) + stream.recv(65536)
        with connect(shop) as silent:
            assert hung_up(silent)  # more than the time a header may take is over
        shop.reader.data = data_of(run_of("later"))
        text = b""
        while b"later" not in text:
            text += stream.recv(65536)
    shop.dashboard.stop()


def test_100_streams_and_slow_readers_leave_the_data_to_be_had_and_memory_bounded(shop: Shop) -> None:
    runs = [run_of(f"agent-{n}", workflow=["a", "b"], done=1) for n in range(300)]
    shop.reader.data = data_of(*runs)
    streams = [connect(shop, b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(100)]
    slow = [connect(shop, b"GET /api/data HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20) for _ in range(20)]
    eventually(lambda: shop.dashboard._server.app._live.streams >= 100)
    before = _rss()
    for number in range(5):
        shop.reader.data = data_of(*(run.model_copy(update={"calls": number}) for run in runs))
        assert shop.ask("/api/data")[0] == 200
    assert _rss() - before < 100 * 2**20
    close_all(streams + slow)


def test_more_streams_than_can_be_served_are_refused_and_the_page_polls(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyjama_instrument.viewer.live_updates.MAX_STREAMS", 2)
    streams = [connect(shop, b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(2)]
    eventually(lambda: shop.dashboard._server.app._live.streams == 2)
    assert shop.ask("/api/stream")[0] == 503
    assert shop.ask("/api/view")[0] == 200
    close_all(streams)


def test_questions_without_end_do_not_pile_up_views(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyjama_instrument.viewer.live_updates.MAX_VIEWS", 3)
    streams = [connect(shop, f"GET /api/stream?q={at} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) for at in range(3)]
    eventually(lambda: shop.dashboard._server.app._live.streams == 3)
    assert shop.ask("/api/stream?q=another")[0] == 503
    close_all(streams)


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
