"""The dashboard's server: what it answers, whom it refuses, and how it starts and stops."""

from __future__ import annotations

import ast
import asyncio
import http.client
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import pytest

from pyjama_instrument import viewer
from pyjama_instrument.document import AgentSummary, DashboardData, GlobalMetrics, Metrics, SessionTree, Workflow
from pyjama_instrument.errors import ConfigError, SessionNotFound, ViewerError
from pyjama_instrument.export import export as export_of
from pyjama_instrument.viewer import Dashboard, error_reporting, reader_thread, start_dashboard
from pyjama_instrument.viewer.app import create_app
from pyjama_instrument.viewer.live_updates import LiveUpdates, ReaderThread
from pyjama_instrument.viewer.query_parameters import QueryParameters
from pyjama_instrument.viewer.server import DEFAULT_PORT, serve
from pyjama_instrument.viewer.view_builder import ViewBuilder
from tests.conftest import RunPython
from tests.stores import SESSION, a_call, dead_journal, session_begins, session_ends
from tests.viewer.fakes import HOSTILE, NOW, FakeReader, apply_patch, data_of, run_of, session_id

DEADLINE = 20.0  # a hang guard
PACKAGE = Path(viewer.__file__).parent
STATIC = PACKAGE / "static"


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """An open event stream, read as it comes."""

    def __init__(self, dashboard: Dashboard, query: str = "", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=DEADLINE)
        self._connection.request("GET", f"/api/stream{query}", headers=headers)
        self.response = self._connection.getresponse()
        self.sent: list[dict[str, Any]] = []
        self._view: dict[str, Any] = {}

    def view(self) -> dict[str, Any]:
        """The next view, put together from what was sent; comments and the like are passed over."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                self.sent.append(json.loads(line[6:]))
                self._view = apply_patch(self._view, self.sent[-1])
                return self._view
        raise EOFError

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.response.close()
        self._connection.close()


@pytest.fixture(autouse=True)
def reports_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reported once per process is reported once per test."""
    monkeypatch.setattr(error_reporting, "_logged", set())


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader(data_of(run_of("first", workflow=["a", "b"], done=1)))


@pytest.fixture
def dashboard(reader: FakeReader) -> Iterator[Dashboard]:
    with serve(create_app(lambda: reader, store="/the/store"), 0) as running:
        yield running
    assert running.status == "stopped"


def ask(dashboard: Dashboard, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=DEADLINE)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()


# ── routes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_and_everything_it_asks_for_is_served(dashboard: Dashboard) -> None:
    page = ask(dashboard, "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    names = {part.split('"')[0] for part in page.body.decode().split('"static/')[1:]}
    scripts = [b"".join(ask(dashboard, f"/static/{name}").body for name in names)]
    imported = {line.split('"./')[1].split('"')[0] for line in scripts[0].decode().splitlines() if '"./' in line}
    for name in names | imported:
        assert ask(dashboard, f"/static/{name}").status == 200, name


def test_every_file_of_the_page_is_served_and_all_are_small(dashboard: Dashboard) -> None:
    files = list(STATIC.iterdir())
    assert all(ask(dashboard, f"/static/{file.name}").body == file.read_bytes() for file in files)
    assert sum(file.stat().st_size for file in files if file.suffix == ".js") <= 80_000
    assert sum(file.stat().st_size for file in files) <= 96_000


@pytest.mark.parametrize(
    ("path", "asked", "name"),
    [
        ("/api/export?format=csv", (None, "csv"), "pyjama.csv"),
        ("/api/export", (None, "jsonl"), "pyjama.jsonl"),
        (f"/api/session/{'5' * 32}/export?format=html", ("5" * 32, "html"), "pyjama-55555555.html"),
    ],
)
def test_a_session_or_everything_can_be_downloaded(
    reader: FakeReader, path: str, asked: tuple[str | None, str], name: str
) -> None:
    made: list[tuple[str | None, str]] = []

    def export(session: str | None, form: str) -> Iterator[bytes]:
        made.append((session, form))
        return iter([b"one,", b"two"])

    with serve(create_app(lambda: reader, export=export), 0) as dashboard:
        answer = ask(dashboard, path)
        head = ask(dashboard, path, "HEAD")
    assert (answer.status, answer.body, made) == (200, b"one,two", [asked])
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ["/api/export?format=exe", "/api/session/none/export?format=csv"])
def test_what_cannot_be_downloaded_is_not_found(reader: FakeReader, path: str) -> None:
    def export(session: str | None, form: str) -> Iterator[bytes]:
        raise SessionNotFound("no such session")

    with serve(create_app(lambda: reader, export=export), 0) as dashboard:
        assert ask(dashboard, path).status == 404


def test_without_the_means_nothing_can_be_downloaded(dashboard: Dashboard) -> None:
    assert ask(dashboard, "/api/export?format=csv").status == 404


def test_a_download_is_what_the_command_would_write(tmp_path: Path) -> None:
    dead_journal(tmp_path, session_begins(), a_call("search"), session_ends())
    with start_dashboard(0, home=tmp_path) as dashboard:
        answer = ask(dashboard, f"/api/session/{SESSION}/export?format=jsonl")
    assert answer.body == b"".join(export_of(tmp_path, SESSION, "jsonl"))
    assert b'"tool":"search"' in answer.body


def test_scripts_never_parse_markup_and_load_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "http:",
            "https:",
            "//cdn",
        ):
            assert forbidden not in text, f"{forbidden} in {file.name}"


@pytest.mark.parametrize(
    "path", ["/nothing", "/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/static/none.js", "/api/data/"]
)
def test_unknown_paths_are_404_in_json(dashboard: Dashboard, path: str) -> None:
    answer = ask(dashboard, path)
    assert (answer.status, answer.json) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/data", "/api/stream", "/api/activity", "/api/token"])
def test_nothing_can_be_changed(dashboard: Dashboard, method: str, path: str) -> None:
    answer = ask(dashboard, path, method)
    assert (answer.status, answer.json) == (405, {"error": "Method Not Allowed"})


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/data", "/api/view", "/api/stream"])
def test_head_is_answered_without_a_body(dashboard: Dashboard, path: str) -> None:
    answer = ask(dashboard, path, "HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_the_data_are_served_with_kebab_case_keys(dashboard: Dashboard, reader: FakeReader) -> None:
    assert ask(dashboard, "/api/data").json == reader.data.to_dict()
    assert "current-step" in ask(dashboard, "/api/data").json["agents"]["first"]


def test_the_view_names_the_store(dashboard: Dashboard) -> None:
    view = ask(dashboard, "/api/view").json
    assert view["store"] == "/the/store"
    assert view["now"] == NOW
    assert [row["agent"] for row in view["active"]] == ["first"]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_diagram_of_an_agent_of_any_name_is_found(dashboard: Dashboard, reader: FakeReader, name: str) -> None:
    reader.data.agents[name] = AgentSummary(workflow=Workflow(total_steps=1, steps=["only"]))
    answer = ask(dashboard, f"/api/agent/{quote(name, safe='')}/diagram")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b'    s0["only"]:::pending\n' in answer.body


def test_the_diagram_of_an_unknown_agent_is_404(dashboard: Dashboard) -> None:
    assert ask(dashboard, "/api/agent/nobody/diagram").status == 404


def test_a_session_is_served_as_a_tree_and_as_a_view(dashboard: Dashboard) -> None:
    tree = ask(dashboard, f"/api/session/{session_id(0)}").json
    assert (tree["id"], tree["root"]["name"], tree["root"]["children"]) == (session_id(0), "first", [])
    assert SessionTree.model_validate(tree).session.agent_id == "first"
    assert ask(dashboard, f"/api/session/{session_id(0)}/view").json["head"]["agent"] == "first"


def test_a_page_that_knows_a_session_is_sent_only_what_has_changed(dashboard: Dashboard, reader: FakeReader) -> None:
    def view(since: str) -> Any:
        return ask(dashboard, f"/api/session/{session_id(0)}/view?since={quote(since)}").json

    first = view("")
    assert (first["full"], len(first["rows"])) == (True, 1)
    again = view(first["version"])
    assert (again["full"], again["rows"], again["head"]) == (False, [], None)
    reader.data.sessions[session_id(0)].calls = 7
    changed = view(again["version"])
    assert (changed["rows"], changed["head"]["tiles"][0]["value"]) == ([], "7")


def test_a_span_is_served_in_full(dashboard: Dashboard) -> None:
    answer = ask(dashboard, f"/api/session/{session_id(0)}/span?key=root")
    assert (answer.status, answer.json["name"], answer.json["status"]) == (200, "first", "running")


@pytest.mark.parametrize("key", ["", "none", quote("<img>")])
def test_an_unknown_span_is_404(dashboard: Dashboard, key: str) -> None:
    answer = ask(dashboard, f"/api/session/{session_id(0)}/span?key={key}")
    assert (answer.status, answer.json) == (404, {"error": "No span has this id."})


@pytest.mark.parametrize("suffix", ["", "/view", "/span?key=a"])
def test_an_unknown_session_is_404(dashboard: Dashboard, suffix: str) -> None:
    answer = ask(dashboard, f"/api/session/{'f' * 32}{suffix}")
    assert (answer.status, answer.json) == (404, {"error": "No run has this id."})


def test_captured_text_that_is_no_unicode_is_served(dashboard: Dashboard, reader: FakeReader) -> None:
    reader.data.sessions[session_id(0)].attributes = {"file": "\udcff", "nan": float("nan")}
    attributes = ask(dashboard, "/api/data").json["sessions"][session_id(0)]["attributes"]
    assert attributes == {"file": "\udcff", "nan": None}
    assert ask(dashboard, f"/api/session/{session_id(0)}").status == 200
    assert ask(dashboard, f"/api/session/{session_id(0)}/view").status == 200


# ── the guard ───────────────────────────────────────────────────────────────────────────────────────────

PATHS = ["/", "/static/app.js", "/api/data", "/api/view", "/api/stream", f"/api/session/{session_id(0)}", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::2]",
        "",
        "localhost:x",
        "@localhost",
    ],
)
def test_a_request_for_another_host_is_refused(dashboard: Dashboard, path: str, host: str) -> None:
    assert ask(dashboard, path, Host=host).status == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:9", "localhost:65535", "[::1]", "[::1]:8080", "127.0.0.1:1"]
)
def test_this_machine_is_answered_under_any_port(dashboard: Dashboard, host: str) -> None:
    assert ask(dashboard, "/api/view", Host=host).status == 200


def test_two_host_headers_are_refused(dashboard: Dashboard) -> None:
    with socket.create_connection(("127.0.0.1", dashboard.port), timeout=DEADLINE) as client:
        client.sendall(b"GET /api/data HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert client.recv(100).split()[1] in (b"400", b"403")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost:1", "http://localhost:1"])
def test_a_request_from_another_origin_is_refused(dashboard: Dashboard, path: str, origin: str) -> None:
    assert ask(dashboard, path, Host="localhost:2", Origin=origin).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "whatever"])
@pytest.mark.parametrize("path", PATHS)
def test_a_request_that_another_sites_page_makes_is_refused(dashboard: Dashboard, path: str, site: str) -> None:
    assert ask(dashboard, path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script").status == 403


def test_the_page_itself_may_be_reached_by_a_link_from_elsewhere(dashboard: Dashboard) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(dashboard, "/", **link).status == 200
    assert ask(dashboard, "/api/data", **link).status == 403


def test_the_pages_own_requests_are_answered(dashboard: Dashboard) -> None:
    own = f"http://127.0.0.1:{dashboard.port}"
    assert ask(dashboard, "/api/view", Origin=own, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_every_answer_forbids_what_the_page_does_not_need(dashboard: Dashboard, path: str, method: str) -> None:
    headers = ask(dashboard, path, method).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in headers if name.lower().startswith("access-control") or name.lower() == "server"]


def test_a_refusal_carries_the_same_headers(dashboard: Dashboard) -> None:
    assert "default-src 'none'" in ask(dashboard, "/", Host="evil.example").headers["Content-Security-Policy"]


# ── the stream ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_gives_the_view_at_once_and_then_its_changes(dashboard: Dashboard, reader: FakeReader) -> None:
    with Stream(dashboard) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert [row["agent"] for row in stream.view()["active"]] == ["first"]
        reader.data = data_of(run_of("second"))
        assert [row["agent"] for row in stream.view()["active"]] == ["second"]


def test_the_passing_of_time_alone_is_no_change(dashboard: Dashboard, reader: FakeReader) -> None:
    with Stream(dashboard) as stream:
        stream.view()
        reader.data = data_of(run_of("first", workflow=["a", "b"], done=1))
        reader.data.timestamp = NOW + 1000
        polls = reader.polls
        eventually(lambda: reader.polls > polls + 1)
        reader.data = data_of(run_of("second"))
        assert stream.view()["active"][0]["agent"] == "second"


def test_the_store_is_read_only_while_somebody_watches(reader: FakeReader) -> None:
    async def visit(live: LiveUpdates) -> None:
        assert not live.polling
        watcher = live.stream()
        await _agent(watcher)
        assert live.polling
        await watcher.aclose()
        await _other_tasks_end()
        assert not live.polling

    _with_live(reader, visit)


def test_a_new_watcher_is_not_given_a_state_from_an_earlier_visit(reader: FakeReader) -> None:
    async def visit_twice(live: LiveUpdates) -> None:
        first = live.stream()
        assert await _agent(first) == "first"
        await first.aclose()
        await _other_tasks_end()
        reader.data = data_of(run_of("second"))
        second = live.stream()
        assert await _agent(second) == "second"
        await second.aclose()

    _with_live(reader, visit_twice)


def test_many_streams_share_one_poller(dashboard: Dashboard, reader: FakeReader) -> None:
    streams = [Stream(dashboard) for _ in range(20)]
    for stream in streams:
        stream.view()
    assert reader.polls < 20
    reader.data = data_of(run_of("second"))
    assert {stream.view()["active"][0]["agent"] for stream in streams} == {"second"}
    for stream in streams:
        stream.__exit__()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # another thread makes it true
        await asyncio.sleep(0.001)


async def message(watcher: AsyncGenerator[bytes, None]) -> bytes:
    while not (frame := await anext(watcher)).startswith(b"data: "):
        pass
    return frame


def test_fifty_pages_are_sent_the_same_bytes_and_only_what_has_changed(reader: FakeReader) -> None:
    async def watch(live: LiveUpdates) -> None:
        watchers = [live.stream() for _ in range(50)]
        whole = [re.sub(rb'"now":[0-9]+', b"", await message(watcher)) for watcher in watchers]
        reader.data = data_of(*(run_of(f"agent-{n}", calls=int(n == 7)) for n in range(100)))
        changes = [await message(watcher) for watcher in watchers]
        assert len(set(whole)) == len(set(changes)) == 1
        assert len(changes[0]) < len(whole[0]) / 50
        for watcher in watchers:
            await watcher.aclose()

    reader.data = data_of(*(run_of(f"agent-{n}") for n in range(100)))
    _with_live(reader, watch)


def test_while_nothing_happens_nothing_is_read_drawn_or_sent(
    reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def count_looks() -> int:
        nonlocal looks
        looks += 1
        return revision()

    async def watch(live: LiveUpdates) -> None:
        watcher = live.stream()
        await _agent(watcher)
        waiting = asyncio.ensure_future(anext(watcher))
        reader.is_idle = True
        before = looks
        await _until(lambda: looks >= before + 3)  # one was under way, and the second of all draws as well
        polls, drawn = reader.polls, len(drawings)
        await _until(lambda: looks >= before + 30)
        assert (reader.polls, len(drawings), waiting.done()) == (polls, drawn, False)
        reader.is_idle = False
        reader.data = data_of(run_of("second"))
        assert b"second" in await waiting
        await watcher.aclose()

    drawings: list[Any] = []
    revision, draw = reader.revision, ViewBuilder.view
    monkeypatch.setattr(reader, "revision", count_looks)
    monkeypatch.setattr(ViewBuilder, "view", lambda self, asked: drawings.append(asked) or draw(self, asked))
    _with_live(reader, watch)


def test_whoever_comes_to_a_store_in_which_nothing_happens_is_told_the_time_of_now(reader: FakeReader) -> None:
    """By which the page reckons how long ago everything was."""

    async def time_of(watcher: AsyncGenerator[bytes, None]) -> int:
        return int(json.loads((await message(watcher)).removeprefix(b"data: "))["now"])

    async def watch(live: LiveUpdates) -> None:
        first, long_ago = live.stream(), time.monotonic() - 500
        before = await time_of(first)
        reader.is_idle = True
        live._channels[QueryParameters()].current._created = long_ago  # type: ignore[union-attr]
        late = live.stream()
        assert await time_of(late) - before >= 500_000
        live._source._read_at = long_ago
        other = live.stream(QueryParameters(page="tools"))
        assert await time_of(other) - before >= 500_000
        assert json.loads(await live.view())["now"] - before >= 500_000
        for watcher in (first, late, other):
            await watcher.aclose()

    _with_live(reader, watch)


def test_calls_a_second_fall_although_nothing_happens(reader: FakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_thread, "_RATE_SECONDS", 0.0)
    reader.data = data_of(metrics=Metrics(global_=GlobalMetrics(calls_per_second=2.0)))
    reader.is_idle = True

    async def watch(live: LiveUpdates) -> None:
        watcher = live.stream()
        await message(watcher)
        reader.data = data_of(metrics=Metrics(global_=GlobalMetrics(calls_per_second=0.0)))
        assert b'"0"' in await message(watcher)
        await watcher.aclose()

    _with_live(reader, watch)


def test_a_run_that_is_asked_for_again_is_not_read_again_while_nothing_happens(
    dashboard: Dashboard, reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    session = reader.session
    monkeypatch.setattr(reader, "session", lambda key: reads.append(key) or session(key))
    reader.is_idle = True
    for _ in range(3):
        assert ask(dashboard, f"/api/session/{session_id(0)}/view").status == 200
    assert len(reads) == 1
    reader.is_idle = False
    assert ask(dashboard, f"/api/session/{session_id(0)}/view").status == 200
    assert len(reads) == 2


def test_a_watcher_that_lags_holds_up_nobody_and_gets_the_latest(reader: FakeReader) -> None:
    async def watch(live: LiveUpdates) -> None:
        slow, quick = live.stream(), live.stream()
        assert await _agent(slow) == "first"
        for number in range(5):
            reader.data = data_of(run_of(f"state {number}"))
            while await _agent(quick) != f"state {number}":
                pass
        assert await _agent(slow) == "state 4"
        await slow.aclose()
        await quick.aclose()

    _with_live(reader, watch)


def test_a_view_that_cannot_be_drawn_ends_the_streams_and_the_next_one_works(
    reader: FakeReader, caplog: pytest.LogCaptureFixture
) -> None:
    async def watch(live: LiveUpdates) -> None:
        watcher = live.stream()
        await _agent(watcher)
        reader.data = None  # type: ignore[assignment]  # what no reader returns
        with pytest.raises(StopAsyncIteration):
            await _agent(watcher)
        reader.data = data_of(run_of("second"))
        again = live.stream()
        assert await _agent(again) == "second"
        await again.aclose()

    _with_live(reader, watch)
    assert "views cannot be built" in caplog.text


def _with_live(reader: FakeReader, use: Callable[[LiveUpdates], Awaitable[None]]) -> None:
    async def main() -> None:
        source = ReaderThread(lambda: reader, "test")
        live = LiveUpdates(source, None, poll_seconds=0.01)
        try:
            await use(live)
        finally:
            live.close()
            source.close()

    asyncio.run(main())


async def _other_tasks_end() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others), DEADLINE)


_views: WeakKeyDictionary[AsyncGenerator[bytes, None], dict[str, Any]] = WeakKeyDictionary()


async def _agent(frames: AsyncGenerator[bytes, None]) -> str:
    """The first active agent of the next view."""
    while not (frame := await anext(frames)).startswith(b"data: "):
        pass
    view = _views[frames] = apply_patch(_views.get(frames, {}), json.loads(frame[6:]))
    return str(view["active"][0]["agent"])


# ── a store that cannot be read ─────────────────────────────────────────────────────────────────────────


def test_a_reader_that_fails_becomes_a_note_beside_the_last_known_state(
    dashboard: Dashboard, reader: FakeReader
) -> None:
    ask(dashboard, "/api/view")
    reader.error = PermissionError(13, "Permission denied")
    view = ask(dashboard, "/api/view").json
    assert [row["agent"] for row in view["active"]] == ["first"]
    assert "cannot be read" in view["notes"][0]["text"]
    assert "Permission denied" in ask(dashboard, "/api/data").json["health"]["notes"][0]


def test_a_failing_reader_is_logged_once(
    dashboard: Dashboard, reader: FakeReader, caplog: pytest.LogCaptureFixture
) -> None:
    reader.error = RuntimeError("broken")
    for _ in range(5):
        ask(dashboard, "/api/view")
    logged = [record.message for record in caplog.records if record.name == "pyjama_instrument.viewer"]
    assert len(logged) == 1
    assert logged[0].startswith("the store cannot be read: RuntimeError: broken (fakes.py:")


def test_a_stream_survives_a_reader_that_fails_and_recovers(dashboard: Dashboard, reader: FakeReader) -> None:
    with Stream(dashboard) as stream:
        assert stream.view()["notes"] == []
        reader.error = OSError("gone")
        assert "gone" in stream.view()["notes"][0]["text"]
        reader.error = None
        assert stream.view()["notes"] == []


def test_a_reader_that_cannot_be_made_is_made_later(reader: FakeReader) -> None:
    outcomes: list[OSError | FakeReader] = [OSError("no store"), reader]

    def make() -> FakeReader:
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    with serve(create_app(make), 0) as dashboard:
        first, second = ask(dashboard, "/api/view").json, ask(dashboard, "/api/view").json
    assert (len(first["notes"]), len(second["active"])) == (1, 1)


def test_a_session_that_cannot_be_read_is_an_error_in_json(
    dashboard: Dashboard, reader: FakeReader, caplog: pytest.LogCaptureFixture
) -> None:
    reader.error = RuntimeError("secret detail")
    with caplog.at_level(logging.CRITICAL + 1):
        answer = ask(dashboard, f"/api/session/{session_id(0)}")
    assert (answer.status, answer.json) == (
        500,
        {"error": "The dashboard failed to answer (RuntimeError). See the program's log."},
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# ── starting and stopping ───────────────────────────────────────────────────────────────────────────────


def viewer_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pyjama-viewer")]


def test_it_is_running_until_stopped_and_leaves_no_thread(reader: FakeReader) -> None:
    dashboard = serve(create_app(lambda: reader), 0)
    assert (dashboard.status, dashboard.url) == ("running", f"http://127.0.0.1:{dashboard.port}/")
    ask(dashboard, "/api/view")
    dashboard.stop()
    assert (dashboard.status, viewer_threads()) == ("stopped", [])
    dashboard.stop()
    assert repr(dashboard) == f"<Dashboard {dashboard.url} stopped>"


def test_stopping_ends_open_streams(reader: FakeReader) -> None:
    dashboard = serve(create_app(lambda: reader), 0)
    with Stream(dashboard) as stream:
        stream.view()
        dashboard.stop()
        assert dashboard.status == "stopped"
        with pytest.raises(EOFError):
            stream.view()


def test_stopping_does_not_wait_for_clients_that_say_nothing(reader: FakeReader) -> None:
    dashboard = serve(create_app(lambda: reader), 0)
    with socket.create_connection(("127.0.0.1", dashboard.port)) as half:
        half.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        ask(dashboard, "/api/view")
        dashboard.stop()
        assert (dashboard.status, viewer_threads()) == ("stopped", [])


def test_stopping_does_not_wait_for_clients_that_do_not_read(reader: FakeReader) -> None:
    reader.data = data_of(*(run_of("x" * 190, tags={"t": "y" * 60}) for _ in range(300)))
    dashboard = serve(create_app(lambda: reader), 0)
    with socket.create_connection(("127.0.0.1", dashboard.port)) as deaf:
        deaf.sendall(b"GET /api/view HTTP/1.1\r\nHost: localhost\r\n\r\n" * 60)
        eventually(lambda: reader.polls > 0)
        dashboard.stop()
        assert (dashboard.status, viewer_threads()) == ("stopped", [])


def test_waiting_ends_with_the_server_and_with_the_timeout(reader: FakeReader) -> None:
    dashboard = serve(create_app(lambda: reader), 0)
    assert dashboard.wait(0.01) is False
    threading.Timer(0.05, dashboard.stop).start()
    assert dashboard.wait(DEADLINE) is True


def test_a_port_that_is_taken_is_refused_by_its_number(reader: FakeReader) -> None:
    with serve(create_app(lambda: reader), 0) as first, pytest.raises(ViewerError, match=f"Port {first.port} .* taken"):
        serve(create_app(lambda: reader), first.port)


def test_a_port_can_be_used_again_at_once(reader: FakeReader) -> None:
    with serve(create_app(lambda: reader), 0) as first:
        ask(first, "/api/view")
    with serve(create_app(lambda: reader), first.port) as second:
        assert ask(second, "/api/view").status == 200


def test_without_a_port_the_next_free_one_is_taken() -> None:
    with start_dashboard() as first, start_dashboard() as second:
        assert first.port >= DEFAULT_PORT
        assert second.port > first.port
        assert ask(second, "/").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", ""])
def test_it_cannot_be_opened_to_the_network(host: str) -> None:
    with pytest.raises(ViewerError, match="together with a token"):
        start_dashboard(0, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "::1", "[::1]"])
def test_it_can_be_bound_to_any_address_of_this_machine(host: str) -> None:
    try:
        dashboard = start_dashboard(0, host=host)
    except ViewerError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    with dashboard:
        assert dashboard.url.startswith("http://[::1]:" if ":" in host else "http://127.0.0.")


@pytest.mark.parametrize("port", [-1, 65536, "8080", 1.5, True])
def test_a_port_that_is_none_is_a_configuration_error(port: Any) -> None:
    with pytest.raises(ConfigError, match="port must be"):
        start_dashboard(port)


@pytest.mark.parametrize("arguments", [{"home": 7}, {"home": ""}, {"host": 7}])
def test_arguments_of_a_wrong_type_are_configuration_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        start_dashboard(0, **arguments)


def test_a_store_that_does_not_exist_is_watched_and_not_made(tmp_path: Path) -> None:
    with start_dashboard(0, home=tmp_path / "none") as dashboard:
        view = ask(dashboard, "/api/view").json
    assert (view["empty"], view["store"]) == (True, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_the_hosts_logging_is_left_alone(reader: FakeReader) -> None:
    names = ("uvicorn", "uvicorn.error", "uvicorn.access")
    before = [(logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names]
    with serve(create_app(lambda: reader), 0) as dashboard:
        ask(dashboard, "/")
    assert [(logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names] == before


def test_a_program_ends_silently_although_its_dashboard_still_runs(run_python: RunPython) -> None:
    done = run_python(
        "import urllib.request\n"
        "from pyjama_instrument.viewer import start_dashboard\n"
        "stream = urllib.request.urlopen(start_dashboard(0).url + 'api/stream')\n"
        "print(stream.readline().decode())\n"  # and leave it open
    )
    assert (done.stdout.strip(), done.stderr) == ("retry: 1000", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_hold_the_port(run_python: RunPython) -> None:
    done = run_python(
        "import os, socket, sys, time, warnings\n"
        "warnings.simplefilter('ignore')\n"  # Python's own about forking beside threads
        "from pyjama_instrument.viewer import start_dashboard\n"
        "dashboard = start_dashboard(0)\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.close(write)\n"
        "    ok = dashboard.status == 'stopped' and dashboard.wait(1)\n"
        "    dashboard.stop()\n"
        "    os.read(read, 1)\n"  # until the parent lets go of the pipe
        "    os._exit(0 if ok else 1)\n"
        "dashboard.stop()\n"
        "start_dashboard(dashboard.port).stop()\n"
        "os.close(write)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    assert done.stderr == ""


# ── the package ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_one_sentence_says_what_to_install(run_python: RunPython, missing: str) -> None:
    done = run_python(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import pyjama_instrument.viewer.overview\n"  # the pure parts need no extra
        "from pyjama_instrument.errors import ViewerError\n"
        "try:\n"
        "    from pyjama_instrument.viewer import start_dashboard\n"
        "except ViewerError as error:\n"
        "    print(error)\n"
    )
    assert "pip install 'pyjama_instrument[viewer]'" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(ImportError):
        from pyjama_instrument.viewer import nothing_of_that_name  # noqa: F401


def test_the_pure_parts_import_nothing_of_the_server() -> None:
    pure = (
        "activity", "call_rates", "diagram", "labels", "overview", "page_frame", "patches", "query_parameters",
        "run_header", "spans", "steps", "tools",
    )  # fmt: skip
    for name in pure:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        allowed = {
            "pyjama_instrument.presentation.formatting",
            "pyjama_instrument.document",
            "__future__",
            "json",
            "math",
            "re",
            "unicodedata",
            "itertools",
            "heapq",
        }
        allowed |= {f"pyjama_instrument.viewer.{name}" for name in pure}
        assert imported <= allowed | {"collections", "collections.abc", "dataclasses", "typing"}, name


def test_a_dashboard_of_nothing_is_empty() -> None:
    with serve(create_app(lambda: FakeReader(DashboardData(timestamp=NOW))), 0) as dashboard:
        assert ask(dashboard, "/api/view").json["empty"] is True
