"""Exports: every format of one session and of the store, whatever is in it."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.errors import ConfigError, SchemaTooNew, SessionNotFound
from pyjama_instrument.export import FORMATS, export, file_name
from pyjama_instrument.export.csv_and_jsonl import COLUMNS
from pyjama_instrument.reader import Reader
from tests.stores import (
    SESSION,
    START_US,
    Writer,
    a_call,
    call_begins,
    dead_journal,
    fold,
    session_begins,
    session_ends,
    step_begins,
    step_ends,
)
from tests.trace_format import check_trace

OTHER, CHILD = "0" * 31 + "1", "0" * 31 + "2"
HOSTILE = "=a\x1b[31m\x9bred</script><img src=x onerror=alert(1)>\r\n\u202e\ud800\x00'\"&"
EVERY_FORMAT = pytest.mark.parametrize("name", FORMATS)


def exported(home: Path, session: str | None = None, format: str = "jsonl") -> bytes:  # noqa: A002
    return b"".join(export(home, session, format))


def events(home: Path, session: str | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(home, session).splitlines()]


def rows(home: Path, session: str | None = None) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(home, session, "csv").decode(), newline="")))


def a_run(session: str = SESSION, *, at: int = START_US, calls: int = 2, **more: Any) -> list[dict[str, Any]]:
    made = [a_call(session=session, ts=at + 3_000 * (n + 1)) for n in range(calls)]
    end = at + 3_000 * calls + 10_000
    ended = session_ends(session, ts=end, duration_ns=(end - at) * 1000)
    return [session_begins(session, ts=at, **more), *made, ended]


# --- what is exported


@EVERY_FORMAT
def test_a_store_that_is_not_there_is_exported_as_an_empty_one(name: str, tmp_path: Path) -> None:
    shown = exported(tmp_path / "nowhere", format=name)
    assert not (tmp_path / "nowhere").exists()
    assert (b"search" in shown) is False


@EVERY_FORMAT
def test_a_session_is_exported_without_the_others(name: str, own_store: Path) -> None:
    dead_journal(own_store, *a_run(), *a_run(OTHER))
    shown = exported(own_store, SESSION, name).decode()
    assert SESSION in shown
    assert OTHER not in shown


@EVERY_FORMAT
def test_the_sessions_inside_a_session_come_along(name: str, own_store: Path) -> None:
    dead_journal(own_store, *a_run())
    dead_journal(own_store, *a_run(CHILD, parent_session=SESSION))
    assert CHILD in exported(own_store, SESSION, name).decode()


@EVERY_FORMAT
def test_a_session_that_is_not_known_is_refused_before_a_byte_is_taken(name: str, own_store: Path) -> None:
    dead_journal(own_store, *a_run())
    with pytest.raises(SessionNotFound):
        export(own_store, "f" * 32, name)


@EVERY_FORMAT
def test_a_store_of_a_newer_version_is_refused(name: str, own_store: Path) -> None:
    own_store.mkdir()
    (own_store / "metrics.json").write_text('{"schema": 999}')
    with pytest.raises(SchemaTooNew):
        export(own_store, None, name)


@EVERY_FORMAT
def test_exporting_does_not_write(name: str, own_store: Path) -> None:
    dead_journal(own_store, *a_run())
    before = {path: path.stat().st_mtime_ns for path in own_store.rglob("*")}
    exported(own_store, format=name)
    assert {path: path.stat().st_mtime_ns for path in own_store.rglob("*")} == before


def test_a_reader_may_be_given_in_place_of_a_directory(own_store: Path) -> None:
    dead_journal(own_store, *a_run())
    assert b"".join(export(Reader(own_store), SESSION)) == exported(own_store, SESSION)


@pytest.mark.parametrize(("session", "name"), [(None, "xml"), (7, "jsonl")])
def test_arguments_that_make_no_sense_are_refused(session: Any, name: str) -> None:
    with pytest.raises(ConfigError):
        export(None, session, name)


@pytest.mark.parametrize("name", ["html", "chrome-trace"])
def test_a_session_known_by_its_summary_alone_is_shown(name: str, own_store: Path) -> None:
    dead_journal(own_store, *a_run())
    for _ in range(3):  # two generations that cover the journal, and it moves to the history
        fold(own_store)
    for segment in (own_store / "history").iterdir():
        segment.unlink()
    assert b"researcher" in exported(own_store, SESSION, name)


def test_progress_is_told_up_to_the_end(own_store: Path) -> None:
    name = dead_journal(own_store, *a_run(calls=500))
    size = (own_store / "journal" / name.filename).stat().st_size
    told: list[tuple[int, int]] = []
    list(export(own_store, progress=lambda done, total: told.append((done, total))))
    assert told[-1] == (size, size)
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("jsonl",), "pyjama.jsonl"),
        (("csv", SESSION), "pyjama-5e551011.csv"),
        (("html", SESSION, "../night: ly\n"), "pyjama-night-ly-5e551011.html"),
        (("chrome-trace", "../..", None), "pyjama.trace.json"),
    ],
)
def test_a_file_s_name_is_safe_whatever_the_agent_is_called(args: tuple[Any, ...], name: str) -> None:
    assert file_name(*args) == name


# --- the order of events


def test_events_of_several_processes_are_merged_by_time(own_store: Path) -> None:
    for first in (0, 1, 2):
        dead_journal(own_store, *[a_call(ts=START_US + 10 * n) for n in range(first, 600, 3)])
    times = [event["ts"] for event in events(own_store) if event["kind"] == "tool.ended"]
    assert times == [START_US + 10 * n for n in range(600)]


def test_events_of_one_process_stay_in_the_order_recorded(own_store: Path) -> None:
    dead_journal(own_store, a_call(ts=START_US + 9), a_call(ts=START_US + 2), a_call(ts=START_US + 5))
    times = [event["ts"] - START_US for event in events(own_store) if event["kind"] == "tool.ended"]
    assert times == [9, 2, 5]


def test_the_segments_of_history_and_journal_are_both_read_once(own_store: Path) -> None:
    dead_journal(own_store, a_call("early", ts=START_US))
    for _ in range(3):
        fold(own_store)
    dead_journal(own_store, a_call("late", ts=START_US + 5))
    assert list((own_store / "history").iterdir())
    assert [event["tool"] for event in events(own_store) if "tool" in event] == ["early", "late"]


def test_a_segment_that_moves_to_the_history_meanwhile_is_read_to_its_end(own_store: Path) -> None:
    name = dead_journal(own_store, *[a_call(ts=START_US + n) for n in range(2000)])
    taken = export(own_store)
    first = next(taken)
    (own_store / "history").mkdir(exist_ok=True)
    (own_store / "journal" / name.filename).rename(own_store / "history" / name.filename)
    assert (first + b"".join(taken)).count(b"\n") == 2001


def test_more_processes_than_there_are_descriptors_can_be_merged(own_store: Path) -> None:
    for n in range(40):
        dead_journal(own_store, a_call(ts=START_US + n), a_call(ts=START_US + 100 + n))
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = max(int(fd) for fd in map(str, range(64)) if Path(f"/proc/self/fd/{fd}").exists()) + 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(low, soft), hard))
    try:
        found = events(own_store)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(event["kind"] == "tool.ended" for event in found) == 80


# --- damage


@pytest.mark.parametrize(
    "damage",
    [b"{half a reco", b"\x00" * 9 + b"\n", b"no json\n", b"[]\n", b'{"ts":"x"}\n', b"\n\n", b"x" * 600_000 + b"\n"],
    ids=["torn", "zeros", "junk", "list", "no time", "empty", "huge"],
)
def test_damage_takes_no_other_record_with_it(damage: bytes, own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call("before"))
    writer.raw(damage)
    writer.raw(b"" if damage.endswith(b"\n") else b"\n")
    writer.write(a_call("after"))
    writer.die()
    assert [event["tool"] for event in events(own_store) if "tool" in event] == ["before", "after"]


def test_a_record_that_is_being_written_is_not_one_yet(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call("whole"))
    writer.raw(b'{"kind":"tool.ended","ts":5}')
    assert [event.get("tool") for event in events(own_store)] == [None, "whole"]
    writer.die()


# --- JSON Lines


def test_json_lines_are_the_records_as_they_were_recorded(own_store: Path) -> None:
    name = dead_journal(own_store, *a_run())
    assert exported(own_store) == (own_store / "journal" / name.filename).read_bytes()


def test_a_large_store_needs_little_memory(own_store: Path) -> None:
    writer = Writer(own_store)
    for _ in range(8):
        writer.write(*[a_call(ts=START_US + n, arguments={"q": "x" * 2500}) for n in range(500)])
    writer.die()
    size = writer.path.stat().st_size
    for name in ("jsonl", "csv"):
        tracemalloc.start()
        passed = sum(map(len, export(own_store, None, name)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert passed > size // 2
        assert peak < size // 3


# --- CSV


def test_a_row_says_what_the_event_said(own_store: Path) -> None:
    error = {"type": "ValueError", "message": "bad", "traceback": ["f.py:1 in f"]}
    call = a_call(status="error", error=error, arguments={"q": 1})
    dead_journal(own_store, session_begins(), call)
    row = rows(own_store, SESSION)[1]
    assert tuple(row) == COLUMNS
    assert (row["kind"], row["tool"], row["status"], row["duration_ms"]) == ("tool.ended", "search", "error", "2.0")
    assert (row["error_type"], row["error_message"]) == ("ValueError", "bad")
    assert (row["time"], row["ts_us"]) == ("2023-11-14T22:13:20.000000Z", str(START_US))
    assert json.loads(row["more"]) == {"arguments": {"q": 1}, "traceback": ["f.py:1 in f"]}


FORMULAS = [
    "=1+1", "+x", "-x", "@x", "\t=x", "\r=x", "\n=x", " =x", "\u3000=x", "\u00a0=x", "\uff1d1", "\uff0bx", "\uff0dx",
    "\uff20x", " \uff1dx", "\ufe66x", "\ufe62x", "\ufe63x", "\ufe6bx", "\u2212x", "\u207ax",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS, ids=ascii)
def test_no_cell_of_text_is_a_formula_or_holds_a_control_character(name: str, own_store: Path) -> None:
    dead_journal(own_store, a_call(name, agent=name, error={"type": name, "message": name}))
    row = rows(own_store)[1]
    for cell in (row["agent"], row["tool"], row["error_type"], row["error_message"]):
        assert cell.startswith(("'", "\\"))  # marked, or no formula any more once it is escaped
        assert cell.isprintable()


@pytest.mark.parametrize("name", ["search", "a=b", "a-b", "x＝y", "(no name)", "'quoted'"])
def test_a_cell_that_is_no_formula_is_left_alone(name: str, own_store: Path) -> None:
    dead_journal(own_store, a_call(name))
    assert rows(own_store)[1]["tool"] == name


def test_a_time_that_no_calendar_has_leaves_its_cell_empty(own_store: Path) -> None:
    dead_journal(own_store, a_call(ts=10**18))
    row = rows(own_store)[-1]
    assert (row["time"], row["ts_us"]) == ("", str(10**18))


# --- the trace


def slices(home: Path, session: str | None = None) -> list[dict[str, Any]]:
    return check_trace(exported(home, session, "chrome-trace"))


def test_spans_are_slices_at_their_times(own_store: Path) -> None:
    step = step_ends("fetch", "1" * 16, ts=START_US + 9_000) | {"duration_ns": 8_000_000}
    call = a_call(parent="1" * 16, ts=START_US + 5_000, duration_ns=2_000_500)
    dead_journal(own_store, session_begins(), call, step, session_ends(ts=START_US + 10_000, duration_ns=10_000_000))
    found = {event["name"]: event for event in slices(own_store)}
    assert {name: (event["cat"], event["ts"] - START_US, event["dur"]) for name, event in found.items()} == {
        "researcher": ("session", 0, 10_000),
        "fetch": ("step", 1_000, 8_000),
        "search": ("tool", 3_000, 2_000.5),
    }
    assert {event["tid"] for event in found.values()} == {1}


def test_calls_at_the_same_time_are_on_threads_of_their_own(own_store: Path) -> None:
    calls = [a_call(ts=START_US + 5_000 + n, duration_ns=4_000_000) for n in range(3)]
    dead_journal(own_store, session_begins(), *calls, session_ends(ts=START_US + 9_000, duration_ns=9_000_000))
    assert sorted(event["tid"] for event in slices(own_store) if event["cat"] == "tool") == [1, 2, 3]


def test_what_runs_has_begun_and_not_ended(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), step_begins("fetch", "1" * 16), call_begins(parent="1" * 16), a_call("done"))
    found = {event["name"]: event["ph"] for event in slices(own_store)}
    writer.die()
    assert found == {"researcher": "B", "fetch": "B", "search": "B", "done": "X"}


def test_what_a_crash_cut_off_ends_with_its_session_and_says_so(own_store: Path) -> None:
    dead_journal(own_store, session_begins(), a_call("done", ts=START_US + 50_000), call_begins(ts=START_US + 20_000))
    found = {event["name"]: event for event in slices(own_store)}
    assert {name: event["args"]["status"] for name, event in found.items()} == {
        "✗ researcher": "crashed",
        "done": "ok",
        "✗ search": "crashed",
    }
    assert found["✗ search"]["dur"] == 30_000


def test_errors_and_captured_values_are_in_the_arguments_of_a_slice(own_store: Path) -> None:
    error = {"type": "ValueError", "message": HOSTILE}
    dead_journal(own_store, session_begins(), a_call(status="error", error=error, arguments={HOSTILE: 1}, result=[2]))
    (call,) = [event for event in slices(own_store) if event["cat"] == "tool"]
    assert call["args"]["error"]["message"] == HOSTILE
    assert (call["args"]["arguments"], call["args"]["result"]) == ({HOSTILE: 1}, [2])


def test_a_number_that_json_lacks_does_not_spoil_the_trace(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins())
    call = json.dumps(a_call(result=[1.5])).replace("1.5", "1e999")
    writer.raw(call.encode() + b"\n")
    writer.die()
    assert [event["args"].get("result") for event in slices(own_store)][-1] == ["inf"]


def test_each_session_is_a_process_with_the_agent_s_name(own_store: Path) -> None:
    dead_journal(own_store, *a_run(), *a_run(OTHER, at=START_US + 1))
    assert {event["pid"] for event in slices(own_store)} == {1, 2}
    assert exported(own_store, None, "chrome-trace").count(b'"name":"researcher (') == 2


def test_the_latest_sessions_are_shown_and_the_others_counted(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyjama_instrument.export.chrome_trace._MAX_SPANS", 4)
    for n in range(9):
        dead_journal(own_store, *a_run(f"{n:032x}", at=START_US + n * 100_000))
    shown = exported(own_store, None, "chrome-trace")
    assert json.loads(shown)["otherData"]["sessions-left-out"] == 7
    assert {event["args"]["session"] for event in check_trace(shown)} == {f"{7:032x}", f"{8:032x}"}


def test_a_session_over_the_limit_says_how_much_is_missing(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyjama_instrument.export.chrome_trace._MAX_SPANS", 4)
    dead_journal(own_store, *a_run(calls=9))
    shown = exported(own_store, SESSION, "chrome-trace")
    assert len(check_trace(shown)) == 4
    assert b"6 spans left out" in shown


# --- the page


def page(home: Path, session: str | None = None) -> str:
    return exported(home, session, "html").decode()


def test_the_page_holds_nothing_that_loads_or_runs(own_store: Path) -> None:
    dead_journal(own_store, *a_run())
    shown = page(own_store)
    assert not re.search(r"<script|<link|<img|<iframe|\bon\w+=|\bhref=|\bsrc=|\bstyle=|url\(|https?:", shown)
    assert "default-src 'none'" in shown


def test_names_and_values_are_escaped(own_store: Path) -> None:
    error = {"type": HOSTILE, "message": HOSTILE, "traceback": [HOSTILE]}
    call = a_call(HOSTILE, agent=HOSTILE, status="error", error=error, arguments={HOSTILE: HOSTILE}, result=HOSTILE)
    begun = session_begins(agent=HOSTILE, tags={HOSTILE: HOSTILE})
    step = step_ends(HOSTILE, "1" * 16, agent=HOSTILE)
    dead_journal(own_store, begun, step, call, session_ends(agent=HOSTILE, status="failed", error=error))
    shown = page(own_store)
    assert "<img" not in shown
    assert shown.count("&lt;img") >= 10
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", shown) is None


def test_a_running_and_a_crashed_session_are_both_told(own_store: Path) -> None:
    dead_journal(own_store, session_begins(), call_begins("lost"))
    writer = Writer(own_store)
    writer.write(session_begins(OTHER), call_begins("open", OTHER))
    shown = page(own_store)
    writer.die()
    assert "interrupted in lost" in shown
    assert "running" in shown


def test_the_page_of_everything_says_how_many_sessions_it_leaves_out(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyjama_instrument.export.html_report._MAX_SPANS", 4)
    for n in range(5):
        dead_journal(own_store, *a_run(f"{n:032x}", at=START_US + n * 100_000))
    assert "3 older runs left out" in page(own_store)
