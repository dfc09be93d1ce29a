"""What is recorded of values: secrets masked, a function of the user's with the last word, and nothing if it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest

from pyjama_instrument import _guard, agent_session, configure, hooks, tool
from pyjama_instrument import shared_metrics as shared
from pyjama_instrument.events import Annotation, SessionStarted, WriterOpened
from pyjama_instrument.export import FORMATS
from pyjama_instrument.reader import get_dashboard_data, load_session
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import REDACTED, Field
from pyjama_instrument.testing import TestStore
from pyjama_instrument.viewer import start_dashboard
from pyjama_instrument.viewer.spans import walk_spans
from tests.conftest import RunPython
from tests.unit.recorded import all_events, call, journal_lines, session_end

SECRET = "hunter2"


def _everything(store: Path) -> bytes:
    return b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())


def _fails(message: str) -> NoReturn:
    raise ValueError(message)


def _tells_its_secret_everywhere() -> None:
    """A program with a secret in every place that is recorded, where nobody asked for it to be."""

    @tool
    def login(user: str, password: str) -> str:
        _fails(f"cannot reach https://{user}:{password}@example.org/?api_key={password} with password='{password}'")

    @tool(capture=True)
    def fetch(url: str, token: str, headers: dict[str, str], body: str) -> dict[str, Any]:
        return {"access_token": SECRET, "items": [{"secret": SECRET}], "next": f"https://x:{SECRET}@example.org"}

    @tool
    async def later(password: str) -> None:
        _fails(f"Authorization: Bearer {password}")

    tags, spec = {"api_key": SECRET}, {"db": {"pwd": SECRET}}
    with contextlib.suppress(ValueError), agent_session("a", tags=tags, spec=spec) as run:
        run.annotate(client_secret=SECRET, tokens=1234)
        with contextlib.suppress(ValueError):
            login("ann", SECRET)
        with contextlib.suppress(ValueError):
            asyncio.run(later(SECRET))
        fetch(f"https://ann:{SECRET}@example.org", SECRET, {"Authorization": f"Bearer {SECRET}"}, f"token={SECRET}")
        run.fail(f"password={SECRET}")
        with run.step("x"):
            _fails(f"redis://:{SECRET}@cache is down")
    shared.record_agent_start("b", {"password": SECRET})
    shared.record_agent_complete("b")


def test_a_secret_is_nowhere_in_the_store_unless_asked_for(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["agent", "--db", f"postgres://ann:{SECRET}@db", f"--token={SECRET}"])
    _tells_its_secret_everywhere()
    recorder.flush()
    assert get_dashboard_data().metrics.global_.count == 3
    assert SECRET.encode() not in _everything(own_store)


def test_a_secret_is_in_no_answer_of_the_viewer(own_store: Path) -> None:
    import urllib.request

    _tells_its_secret_everywhere()
    dashboard = start_dashboard(0)
    try:
        sessions = list(get_dashboard_data().sessions)
        spans = [(sid, node.key) for sid in sessions for node in walk_spans(load_session(sid).root)]
        paths = [
            "/",
            *(
                "/api/data",
                "/api/view",
                "/api/view?page=tools",
                "/api/activity?before=9999999999999.0",
                "/api/agent/a/diagram",
            ),
            *(f"/api/session/{sid}{part}" for sid in sessions for part in ["", "/view"]),
            *(f"/api/session/{sid}/span?key={quote(span)}" for sid, span in spans),
            *(f"/api/session/{sid}/export?format={name}" for sid in sessions for name in FORMATS),
            *(f"/api/export?format={name}" for name in FORMATS),
        ]
        answers = []
        for path in paths:
            with urllib.request.urlopen(dashboard.url.rstrip("/") + path) as answer:
                answers.append(answer.read())
    finally:
        dashboard.stop()
    assert len(spans) > 3
    assert SECRET.encode() not in b"".join(answers)
    for sid in sessions:
        assert SECRET not in repr(load_session(sid))


def test_what_is_no_secret_is_recorded_as_it_is() -> None:
    tool("t", capture=True)(lambda path, tokens: {"max_tokens": 5})("a/b", tokens=17)
    assert call().arguments == {"path": "a/b", "tokens": 17}
    assert call().result == {"max_tokens": 5}


def test_the_rest_of_a_message_is_kept() -> None:
    with pytest.raises(ValueError, match=SECRET):  # the caller sees the exception itself
        tool("t")(_fails)(f"cannot reach https://ann:{SECRET}@example.org/x")
    error = call().error
    assert error is not None
    assert error.message == "cannot reach https://[redacted]@example.org/x"


def test_the_caller_s_own_values_are_not_touched() -> None:
    given = {"password": SECRET, "nested": [{"token": SECRET}]}
    assert tool("t", capture=True)(lambda x: x)(given) is given
    assert given == {"password": SECRET, "nested": [{"token": SECRET}]}


# -- a function of the user's


def test_a_redaction_function_decides_by_key_and_by_tool() -> None:
    def redact(field: Field) -> Any:
        if field.key == "iban" or (field.tool == "charge" and field.place == "result"):
            return REDACTED
        return field.masked

    configure(redact=redact)
    tool("charge", capture=True)(lambda iban, amount: "done")("DE00", 5)
    tool("other", capture=True)(lambda iban, amount: "done")("DE00", 5)
    assert (call("charge").arguments, call("charge").result) == ({"iban": REDACTED, "amount": 5}, REDACTED)
    assert (call("other").arguments, call("other").result) == ({"iban": REDACTED, "amount": 5}, "done")


def test_a_redaction_function_may_show_what_is_masked_by_default() -> None:
    configure(redact=lambda field: field.value if field.key == "token" else field.masked)
    tool("t", capture=True)(lambda token, password: None)("word", password=SECRET)
    assert call().arguments == {"token": "word", "password": REDACTED}


def test_a_redaction_function_is_asked_about_every_place() -> None:
    seen: dict[str, set[Any]] = {}

    def redact(field: Field) -> Any:
        seen.setdefault(field.place, set()).add((field.key, field.tool))
        return field.masked

    configure(redact=redact)

    @tool("t", capture=True)
    def work(x: int) -> int:
        if x:
            raise ValueError("message")
        return x

    with agent_session("a", tags={"k": 1}, spec={"s": 1}) as run:
        run.annotate(n=1)
        work(0)
        with contextlib.suppress(ValueError):
            work(1)
    assert seen == {
        "argv": {("", None)},
        "tags": {("", None), ("k", None)},
        "spec": {("", None), ("s", None)},
        "attributes": {("", None), ("n", None)},
        "arguments": {("", "t"), ("x", "t")},
        "result": {("", "t")},
        "error": {("", "t")},
    }


def test_a_container_can_be_replaced_as_a_whole() -> None:
    asked: list[str] = []

    def redact(field: Field) -> Any:
        asked.append(field.key)
        return "a card" if field.key == "card" else field.masked

    configure(redact=redact)
    tool("t", capture=True)(lambda card, items: None)({"number": 1}, [{"a": 2}, 3])
    assert call().arguments == {"card": "a card", "items": [{"a": 2}, 3]}
    assert "number" not in asked


@pytest.mark.parametrize("answer", [object(), float("nan"), b"bytes", "x" * 10_000_000, {"a": {1, 2}}, None])
def test_whatever_a_redaction_function_returns_is_made_safe(answer: Any) -> None:
    configure(redact=lambda field: answer if field.key == "x" else field.masked)
    tool("t", capture=True)(lambda x: None)(SECRET)
    assert SECRET not in repr(call().arguments)
    assert len(journal_lines()[-1]) < 65536


@pytest.mark.swallows
def test_a_redaction_function_that_raises_withholds_the_value_and_nobody_notices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def redact(field: Field) -> Any:
        raise RuntimeError("redaction is broken")

    configure(redact=redact)
    with agent_session("a", tags={"k": SECRET}) as run:
        run.annotate(n=SECRET)
        assert tool("t", capture=True)(lambda x: x)(SECRET) == SECRET
        with pytest.raises(ValueError, match=SECRET):
            tool("t")(_fails)(SECRET)
    events = all_events()
    assert SECRET not in repr(events)
    assert REDACTED in repr(events)
    assert [event.attributes for event in events if isinstance(event, Annotation)] == [{"…": REDACTED}]
    assert session_end("a").status == "completed"
    assert _guard.counts["redact"] > 3
    assert capsys.readouterr().err.count("redaction is broken") == 1


def test_an_interrupt_inside_a_redaction_function_goes_on() -> None:
    def redact(field: Field) -> Any:
        if field.place == "arguments":
            raise KeyboardInterrupt
        return field.masked

    configure(redact=redact)
    with pytest.raises(KeyboardInterrupt):
        tool("t", capture=True)(lambda x: x)(1)
    configure(redact=False)
    assert tool("t", capture=True)(lambda x: x)(1) == 1


def test_hooks_see_the_arguments_themselves_and_the_event_as_it_was_recorded() -> None:
    seen: list[hooks.ToolCall] = []
    hooks.register_hook("t", seen.append)
    tool("t", capture=True)(lambda password: None)(SECRET)
    (told,) = seen
    assert told.args == (SECRET,)
    assert told.event is not None
    assert told.event.arguments == {"password": REDACTED}


def test_tags_are_judged_when_the_session_begins() -> None:
    nightly = agent_session("a", tags={"customer": SECRET})
    configure(redact=lambda field: REDACTED if field.key == "customer" else field.masked)
    with nightly:
        pass
    (started,) = (event for event in all_events() if isinstance(event, SessionStarted) and event.agent == "a")
    assert started.tags == {"customer": REDACTED}


def test_a_redaction_function_is_taken_back() -> None:
    configure(redact=lambda field: REDACTED)
    configure(redact=False)
    tool("t", capture=True)(lambda x: None)(1)
    assert call().arguments == {"x": 1}


# -- messages of exceptions


def test_messages_can_be_left_out(own_store: Path) -> None:
    configure(error_messages=False)
    with pytest.raises(ValueError, match="no pattern knows"), agent_session("a"):
        tool("t")(_fails)("no pattern knows this one")
    error = call().error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", REDACTED)
    assert error.traceback
    assert b"no pattern knows" not in _everything(own_store)
    configure(error_messages=True)
    with pytest.raises(ValueError, match="shown"):
        tool("u")(_fails)("shown")
    assert call("u").error.message == "shown"  # type: ignore[union-attr]  # it has one


@pytest.mark.parametrize("value", ["0", "false", "No"])
def test_the_environment_can_leave_messages_out(value: str, own_store: Path, run_python: RunPython) -> None:
    source = "from pyjama_instrument import tool\n@tool\ndef t(): raise ValueError('private matter')\nt()"
    done = run_python(source, returncode=1, PYJAMA_ERROR_MESSAGES=value)
    assert "private matter" in done.stderr  # the program's own traceback
    assert b"private matter" not in _everything(own_store)
    assert b"ValueError" in _everything(own_store)


def test_the_exception_that_ends_a_program_is_masked_too(own_store: Path, run_python: RunPython) -> None:
    source = "from pyjama_instrument import tool\ntool('t')(len)('')\nraise ValueError('password=hunter2')"
    run_python(source, returncode=1)
    assert SECRET.encode() not in _everything(own_store)
    (ended,) = (event for event in TestStore(os.fspath(own_store)).events() if event.kind == "session.ended")
    assert "[redacted]" in repr(ended)


def test_the_command_line_goes_through_the_redaction_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["agent.py", "ann@example.org"])
    configure(redact=lambda field: REDACTED if "@" in str(field.value) else field.masked)
    tool("t")(len)("")
    (opened,) = (event for event in all_events() if isinstance(event, WriterOpened))
    assert opened.argv == ("agent.py", REDACTED)
