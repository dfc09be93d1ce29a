"""``show``, ``tail`` with filters, ``top`` in a pipe, and ``export``: what they print."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.cli import arguments, main
from pyjama_instrument.cli.run_argument import find_run
from pyjama_instrument.document import AgentSummary, DashboardData, SessionSummary
from pyjama_instrument.errors import ConfigError, SessionNotFound
from pyjama_instrument.export import FORMATS
from pyjama_instrument.reader import Reader, tail_events
from pyjama_instrument.viewer.overview import build_overview
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
from tests.unit.test_cli import HOSTILE, RAW, Pyjama, run_agent


@pytest.fixture
def pyjama(capsys: pytest.CaptureFixture[str]) -> Pyjama:
    """Run the command in this process: a hundred children would take a minute."""

    def run(*args: str, returncode: int = 0) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(args)
        shown = capsys.readouterr()
        assert code == returncode, f"{shown.out}\n{shown.err}"
        return subprocess.CompletedProcess(args, code, shown.out, shown.err)

    return run


def a_run() -> None:
    """A run with two steps, a loop of calls, and an error."""
    calls = [a_call("fetch", parent="1" * 16, ts=START_US + 3_000 * n, duration_ns=2_000_000) for n in range(1, 21)]
    error = {"type": "x.ValueError", "message": "bad", "traceback": ["f.py:1 in f"]}
    failed = a_call("parse", ts=START_US + 80_000, status="error", error=error, arguments={"q": "it"}, result=[1])
    step = step_ends("load", "1" * 16, ts=START_US + 70_000) | {"duration_ns": 70_000_000}
    ended = session_ends(ts=START_US + 90_000, duration_ns=90_000_000, status="failed", error=error)
    dead_journal(os.environ["PYJAMA_HOME"], session_begins(tags={"kind": "test"}), *calls, step, failed, ended)


# --- the argument RUN


class Known:
    """What a reader knows: sessions that the dashboard lists, agents, and ids that only the history holds."""

    def __init__(self, *forgotten: str, **sessions: SessionSummary) -> None:
        agents = {"crawler": AgentSummary(session="a2"), "reader": AgentSummary(session="b1")}
        agents |= {"indexer": AgentSummary(session="e" * 32), "original": AgentSummary()}
        self.data = DashboardData(sessions=sessions, agents=agents)
        self.forgotten = forgotten

    def dashboard(self) -> DashboardData:
        return self.data

    def sessions_beginning(self, beginning: str) -> list[str]:
        return [key for key in self.forgotten if key.startswith(beginning)]


def some(agent: str, status: str, start: int) -> SessionSummary:
    return SessionSummary(agent_id=agent, status=status, start_time=start)


SESSIONS = {
    "a1": some("crawler", "completed", 1),
    "a2": some("crawler", "completed", 3),
    "b1": some("reader", "running", 2),
    "b2": some("reader", "completed", 9),
}
KNOWN = Known("e" * 32, "d" * 31 + "1", "d" * 31 + "2", **SESSIONS)


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("a1", "a1"),
        ("crawler", "a2"),
        ("reader", "b1"),
        ("latest", "b1"),
        ("f" * 32, "f" * 32),
        ("A2", "a2"),
        ("indexer", "e" * 32),
        ("eeee", "e" * 32),
        ("EEEEEEEE", "e" * 32),
    ],
)
def test_a_run_is_named_by_its_id_its_beginning_its_agent_or_as_the_latest(text: str, run: str) -> None:
    assert find_run(KNOWN, text) == run


def test_the_latest_run_is_not_a_child_run() -> None:
    inside = SessionSummary(agent_id="helper", status="running", start_time=10, parent_session="b1")
    assert find_run(Known(**SESSIONS, c1=inside), "latest") == "b1"
    assert find_run(Known(b1=inside), "latest") == "b1"  # its parent is itself


def test_a_beginning_that_several_runs_share_is_refused_with_their_ids() -> None:
    with pytest.raises(ConfigError, match=r"2 runs begin with a: a1 and a2"):
        find_run(KNOWN, "a")
    with pytest.raises(ConfigError, match=r"2 runs begin with dddd: dddddddddddd and dddddddddddd"):
        find_run(KNOWN, "dddd")


def test_an_agent_that_was_recorded_without_runs_has_none_to_show() -> None:
    with pytest.raises(SessionNotFound, match="agent original was recorded without runs"):
        find_run(KNOWN, "original")


@pytest.mark.parametrize("text", ["zz", "", "crawl", "eee", "0000"])
def test_a_run_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(SessionNotFound, match=f"no agent or run matches '{text}'.*: pyjama status"):
        find_run(KNOWN, text)


# --- show


def test_show_is_the_latest_run_unless_another_is_named(pyjama: Pyjama) -> None:
    a_run()
    run_agent("later")
    assert re.match(r"Agent +later  completed\n", pyjama("show").stdout)
    assert re.match(r"Agent +researcher  failed\n", pyjama("show", "researcher").stdout)
    assert pyjama("show", SESSION[:6]).stdout == pyjama("show", SESSION).stdout


def test_show_draws_the_tree_with_times_and_errors(pyjama: Pyjama) -> None:
    a_run()
    lines = pyjama("show").stdout.partition("SPAN")[2].splitlines()[1:]
    tree = [re.sub(r"(?<=\S) {2,}", "  ", line) for line in lines]
    assert tree == [
        "researcher  90 ms  failed",
        "  ValueError: bad",
        "├─ load  70 ms  ok",
        "│  ├─ fetch  +1.0 ms  2.0 ms  ok",
        "│  ├─ fetch  +4.0 ms  2.0 ms  ok",
        "│  ├─ fetch  +7.0 ms  2.0 ms  ok",
        "│  └─ … 17 more fetch  34 ms  ok",
        "└─ parse  +78 ms  2.0 ms  error",
        "     ValueError: bad",
    ]


def test_show_prints_the_spec_of_the_run_and_not_that_of_a_later_one(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, session_begins(spec={"model": "small", "temperature": 0.2}), session_ends())
    dead_journal(own_store, session_begins("e" * 32, spec={"model": "large"}), session_ends("e" * 32))
    shown = pyjama("show", SESSION).stdout
    assert re.search(r"^spec model +small$", shown, re.MULTILINE)
    assert re.search(r"^spec temperature +0.2$", shown, re.MULTILINE)
    assert json.loads(pyjama("show", "e" * 32, "--json").stdout)["spec"] == {"model": "large"}


def test_show_all_leaves_no_call_out(pyjama: Pyjama) -> None:
    a_run()
    assert pyjama("show", "--all").stdout.count(" fetch ") == 20


def test_show_values_adds_what_was_captured_and_tracebacks(pyjama: Pyjama) -> None:
    a_run()
    assert "q =" not in pyjama("show").stdout
    shown = pyjama("show", "--values").stdout
    assert all(part in shown for part in ("q = it", "→ [1]", "f.py:1 in f"))


def test_show_names_the_running_call_and_its_time_so_far(pyjama: Pyjama, own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), step_begins("load", "1" * 16), call_begins("fetch", parent="1" * 16))
    shown = pyjama("show").stdout
    writer.die()
    assert re.search(r"^   └─ fetch .* so far  running$", shown, re.MULTILINE)


def test_show_of_a_crash_names_the_call(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, session_begins(), call_begins("fetch"))
    assert re.search(r"^Cut off +in fetch$", pyjama("show").stdout, re.MULTILINE)


def test_show_names_the_child_runs_and_the_parent_run(pyjama: Pyjama) -> None:
    with agent_session("outer") as outer, agent_session("inner") as inner:
        pass
    assert re.search(rf"^Child runs +inner {inner.id[:8]} \(completed\)$", pyjama("show").stdout, re.MULTILINE)
    shown = pyjama("show", "inner").stdout
    assert re.search(rf"^Part of +outer {outer.id[:8]} \(completed\)$", shown, re.MULTILINE)


def test_show_adds_up_what_the_child_runs_used_as_the_page_does(pyjama: Pyjama) -> None:
    with agent_session("planner") as planner:
        planner.annotate(tokens=1200, model="small")
        with agent_session("worker") as worker:
            worker.annotate(tokens=300, cost=0.5)
            tool(len)("abc")
    shown = pyjama("show").stdout
    assert re.search(r"^Calls +0 calls and 1 in 1 child run, 0 errors$", shown, re.MULTILINE)
    assert re.search(r"^tokens +1,500 \(1,200 here, 300 in 1 child run\)$", shown, re.MULTILINE)
    assert re.search(r"^cost +0.5 \(none here, 0.5 in 1 child run\)$", shown, re.MULTILINE)
    assert re.search(r"^model +small$", shown, re.MULTILINE)
    assert re.search(r"^tokens +300$", pyjama("show", "worker").stdout, re.MULTILINE)


def test_show_names_a_few_of_many_child_runs(pyjama: Pyjama) -> None:
    with agent_session("outer"):
        for _ in range(8):
            with agent_session("inner"):
                pass
    line = next(line for line in pyjama("show").stdout.splitlines() if line.startswith("Child runs"))
    assert (line.count("inner"), line.endswith(" and 3 more")) == (5, True)


def test_show_as_json_is_the_tree(pyjama: Pyjama) -> None:
    a_run()
    shown = json.loads(pyjama("show", "--json").stdout)
    assert (shown["id"], shown["root"]["children"][0]["name"]) == (SESSION, "load")


def test_show_of_an_empty_store_reports_that_nothing_is_recorded(pyjama: Pyjama) -> None:
    assert "nothing is recorded yet" in pyjama("show", returncode=2).stderr


# --- tail with filters


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (["--agent", "one"], ["one a", "one b"]),
        (["--agent", "one", "--agent", "two"], ["one a", "one b", "two a"]),
        (["--agent", "t*"], ["three a", "two a"]),
        (["--tool", "b"], ["one b"]),
        (["--agent", "t?o", "--tool", "[ab]"], ["two a"]),
        (["--status", "error"], ["three a"]),
        (["--grep", "no (work|luck)"], ["three a"]),
        (["--grep", r"one +tool\.ended"], ["one a", "one b"]),
        (["--agent", "one", "--status", "error"], []),
    ],
    ids=" ".join,
)
def test_tail_shows_the_events_that_pass_every_filter(
    pyjama: Pyjama, own_store: Path, filters: list[str], shown: list[str]
) -> None:
    error = {"type": "ValueError", "message": "no work today"}
    failed = a_call("a", agent="three", status="error", error=error)
    dead_journal(own_store, a_call("a", agent="one"), a_call("b", agent="one"), a_call("a", agent="two"), failed)
    found = [line.split() for line in pyjama("tail", *filters).stdout.splitlines()]
    assert sorted(f"{line[1]} {line[3]}" for line in found) == shown


def test_a_name_with_brackets_in_it_can_be_asked_for_as_it_is(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, a_call("get[1]"), a_call("get1"))
    assert [line.split()[3] for line in pyjama("tail", "--tool", "get[1]").stdout.splitlines()] == ["get[1]", "get1"]
    assert len(pyjama("tail", "--agent", "?*").stdout.splitlines()) == 2


def test_tail_counts_the_lines_that_pass(pyjama: Pyjama, own_store: Path) -> None:
    calls = [a_call(name, ts=START_US + n) for n, name in enumerate(["rare", "rare", "rare", *["often"] * 50])]
    dead_journal(own_store, *calls)
    assert len(pyjama("tail", "-n", "2", "--tool", "rare").stdout.splitlines()) == 2


def test_tail_as_json_is_filtered_too(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, a_call("a", arguments={"q": "needle"}), a_call("b"))
    (line,) = pyjama("tail", "--json", "--grep", "needle").stdout.splitlines()
    assert json.loads(line)["tool"] == "a"


def test_tail_gives_the_date_of_what_is_not_of_today(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, a_call("old"), a_call("new", ts=time.time_ns() // 1000))
    old, new = (line.split()[0] for line in pyjama("tail").stdout.splitlines()[-2:])
    assert re.fullmatch(r"2023-11-1\dT\d\d:\d\d:\d\d\.\d{3}", old)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", new)


@pytest.mark.parametrize("status", ["bogus", "crashed", "Error", ""])
@pytest.mark.parametrize("follow", [[], ["-f"]], ids=str)
def test_a_status_that_no_event_has_is_refused_with_those_there_are(
    pyjama: Pyjama, own_store: Path, status: str, follow: list[str]
) -> None:
    dead_journal(own_store, a_call())
    error = pyjama("tail", *follow, "--status", "ok", "--status", status, returncode=2).stderr
    assert f"--status {status}: no event has this status, only ok, error, cancelled, completed and failed" in error
    assert ("pyjama status" in error) == (status == "crashed")


def test_a_status_of_a_program_s_own_and_a_pattern_can_be_asked_for(pyjama: Pyjama, own_store: Path) -> None:
    activity = {"kind": "activity", "agent": "a", "session": SESSION, "ts": START_US, "status": "thinking"}
    dead_journal(own_store, activity, a_call(status="cancelled"))
    assert "thinking" in pyjama("tail", "--status", "thinking").stdout
    assert "cancelled" in pyjama("tail", "--status", "canc*").stdout
    assert "failed and thinking" in pyjama("tail", "--status", "thinkin", returncode=2).stderr


def test_the_example_that_asks_for_durations_gives_numbers_only(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, call_begins("fetch"), a_call("fetch", duration_ns=7), a_call("other"))
    (example,) = re.findall(r"pyjama tail -f( --json --tool fetch) \| (jq .+)", pyjama("tail", "--help").stdout)
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    events = pyjama("tail", *example[0].split()).stdout
    shown = subprocess.run(example[1], shell=True, input=events, capture_output=True, text=True, check=True).stdout
    assert shown == "7\n"


def test_a_grep_that_is_no_regular_expression_is_one_line_and_2(pyjama: Pyjama) -> None:
    assert re.fullmatch(r"pyjama: --grep \(: .*backslash.*\n", pyjama("tail", "--grep", "(", returncode=2).stderr)


def test_tail_events_gives_what_matches_and_follows_with_it(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call("a"), a_call("b"))
    found = tail_events(follow=True, poll_seconds=0, limit=5, matching=lambda event: getattr(event, "tool", "") == "b")
    assert getattr(next(found), "tool", None) == "b"
    writer.write(a_call("a"), a_call("b", result="second"))
    assert getattr(next(found), "result", None) == "second"
    writer.die()


@pytest.mark.parametrize("options", [[], ["--json"], ["--status", "error"]], ids=" ".join)
def test_tail_of_an_empty_store_reports_that_nothing_is_recorded(
    pyjama: Pyjama, own_store: Path, options: list[str]
) -> None:
    done = pyjama("tail", *options)
    assert (done.stdout, done.stderr) == (
        "",
        "Nothing is recorded yet. To see what it looks like, run: pyjama demo\n",
    )
    assert not own_store.exists()


# --- top in a pipe


def test_top_in_a_pipe_is_one_frame_of_plain_text(pyjama: Pyjama) -> None:
    run_agent("crawler")
    shown = pyjama("top").stdout
    assert len(pyjama("top", "--once").stdout.splitlines()) == len(shown.splitlines())
    assert re.search(r"^crawler +completed +1 +0 ", shown, re.MULTILINE)
    assert re.search(r"^work +1 +0 +– ", shown, re.MULTILINE)
    assert "\x1b" not in shown


def test_top_shows_no_table_of_tools_while_there_are_none(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, session_begins())
    shown = pyjama("top").stdout
    assert "AGENT" in shown
    assert "TOOL" not in shown


def test_top_shows_the_step_and_call_of_an_agent_and_how_many_steps_are_done(pyjama: Pyjama, own_store: Path) -> None:
    writer = Writer(own_store)
    workflow = session_begins() | {"kind": "workflow.declared", "steps": ["load", "check", "save"]}
    begun = [step_begins("check", "2" * 16), call_begins("fetch", parent="2" * 16)]
    writer.write(session_begins(), workflow, step_begins("load", "1" * 16), step_ends("load", "1" * 16), *begun)
    shown, status = pyjama("top").stdout, pyjama("status").stdout
    (row,) = build_overview(Reader(own_store).dashboard())["active"]
    writer.die()
    assert re.search(r"^researcher +running +1/3 .* check, in fetch \d", shown, re.MULTILINE)
    assert re.search(r"^researcher +running +1/3 .* check, in fetch \d", status, re.MULTILINE)
    assert (row["step"], row["done"], row["fraction"]) == ("check", "1/3", 0.3333)  # the page shows the same


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ([], ["often", "slow", "wrong"]),
        (["--reverse"], ["wrong", "slow", "often"]),
        (["--sort", "errors"], ["wrong", "often", "slow"]),
        (["--sort", "p95"], ["slow", "often", "wrong"]),
        (["--sort", "time"], ["slow", "often", "wrong"]),
        (["--sort", "name"], ["often", "slow", "wrong"]),
        (["--sort", "name", "--reverse"], ["wrong", "slow", "often"]),
    ],
    ids=" ".join,
)
def test_top_orders_tools_as_asked(pyjama: Pyjama, own_store: Path, options: list[str], order: list[str]) -> None:
    slow = [a_call("slow", duration_ns=9_000_000) for _ in range(2)]
    dead_journal(own_store, *[a_call("often") for _ in range(3)], *slow, a_call("wrong", status="error"))
    shown = pyjama("top", *options).stdout
    assert re.findall(r"^(often|slow|wrong) ", shown, re.MULTILINE) == order


def test_top_names_how_many_rows_it_leaves_out(pyjama: Pyjama, own_store: Path) -> None:
    dead_journal(own_store, *[a_call(f"tool {n}") for n in range(100)])
    shown = pyjama("top").stdout
    assert len(shown.splitlines()) <= 42
    assert re.search(r"^… and \d+ more$", shown, re.MULTILINE)


# --- export


@pytest.mark.parametrize("name", FORMATS)
def test_export_writes_a_file_in_the_format_that_its_name_asks_for(pyjama: Pyjama, tmp_path: Path, name: str) -> None:
    a_run()
    path = tmp_path / f"run{FORMATS[name].ending}"
    done = pyjama("export", "-o", str(path))
    assert done.stdout == ""
    assert done.stderr == f"Wrote {path}, {path.stat().st_size:,} bytes\n"
    start = {"jsonl": b'{"kind":', "csv": b"time,", "chrome-trace": b'{"displayTimeUnit"', "html": b"<!DOCTYPE html>"}
    assert path.read_bytes().startswith(start[name])
    assert pyjama("export", "researcher", "--format", name).stdout.encode().startswith(start[name])


def test_export_without_a_file_goes_to_standard_output_as_json_lines(pyjama: Pyjama) -> None:
    a_run()
    done = pyjama("export", "--all")
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()][:2] == ["writer.opened", "session.started"]
    assert done.stderr == ""


def test_export_of_a_run_leaves_the_others_out(pyjama: Pyjama) -> None:
    a_run()
    run_agent("other")
    rows = csv.DictReader(io.StringIO(pyjama("export", "other", "--format", "csv").stdout))
    assert {row["agent"] for row in rows} == {"other"}


@pytest.mark.parametrize("name", ["x.xyz", "x.json", "x.csv.gz", "dir.d/x.txt"])
def test_an_ending_that_no_format_has_is_refused_with_those_there_are(
    pyjama: Pyjama, tmp_path: Path, name: str
) -> None:
    a_run()
    error = pyjama("export", "-o", str(tmp_path / name), returncode=2).stderr
    assert "Use one of .jsonl, .csv, .trace.json, .html, or add --format" in error
    assert list(tmp_path.glob("x*")) == []


def test_a_format_that_is_named_may_go_into_a_file_of_any_name(pyjama: Pyjama, tmp_path: Path) -> None:
    a_run()
    pyjama("export", "--format", "csv", "-o", str(tmp_path / "x.xyz"))
    pyjama("export", "-o", str(tmp_path / "events"))
    assert (tmp_path / "x.xyz").read_text().startswith("time,")
    assert (tmp_path / "events").read_text().startswith("{")


@pytest.mark.parametrize("name", ["crawler", "latest", SESSION])
def test_everything_and_one_run_cannot_both_be_exported(pyjama: Pyjama, name: str) -> None:
    a_run()
    assert f"remove '{name}', or remove --all" in pyjama("export", "--all", name, returncode=2).stderr


def test_an_export_that_fails_leaves_the_file_as_it_was(pyjama: Pyjama, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text("from before")
    assert "nothing is recorded yet" in pyjama("export", "nosuch", "-o", str(path), returncode=2).stderr
    assert [each.read_text() for each in tmp_path.glob("*run.html*")] == ["from before"]


def test_an_export_into_a_directory_that_is_not_there_is_one_line_and_2(pyjama: Pyjama, tmp_path: Path) -> None:
    a_run()
    done = pyjama("export", "-o", str(tmp_path / "nowhere" / "run.csv"), returncode=2)
    assert re.fullmatch(r"pyjama: .*run\.csv cannot be written: .*\n", done.stderr)


def test_an_export_may_go_into_a_device(pyjama: Pyjama) -> None:
    a_run()
    pyjama("export", "--all", "-o", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_an_exported_trace_of_real_runs_is_valid(pyjama: Pyjama) -> None:
    run_agent("crawler")
    with agent_session("open"):
        shown = pyjama("export", "--all", "--format", "chrome-trace").stdout
    assert {each["name"] for each in check_trace(shown.encode())} == {"crawler", "only", "work", "open"}


def test_a_run_that_the_totals_have_forgotten_is_found_in_the_history(pyjama: Pyjama, own_store: Path) -> None:
    a_run()
    for _ in range(3):
        fold(own_store)
    (own_store / "metrics.json").unlink()
    (own_store / "metrics.json.prev").unlink()
    assert list((own_store / "history").iterdir())
    assert SESSION in pyjama("export", SESSION).stdout
    assert "fetch" in pyjama("show", SESSION).stdout


# --- what reaches a terminal


@pytest.mark.parametrize(
    "args",
    [["show"], ["show", "--values"], ["show", "--json"], ["top"], ["export", "--all"], ["export", "--format", "csv"]],
    ids=" ".join,
)
def test_no_control_character_of_a_recorded_name_or_value_is_printed(pyjama: Pyjama, args: list[str]) -> None:
    @tool(HOSTILE, capture=True)
    def hostile(what: str) -> None:
        raise ValueError(HOSTILE)

    tags = {HOSTILE: HOSTILE}
    with (
        pytest.raises(ValueError, match="bidi"),
        agent_session(HOSTILE, workflow=[HOSTILE], tags=tags) as run,
        run.step(HOSTILE),
    ):
        hostile(HOSTILE)
    shown = pyjama(*args).stdout.replace("\r\n", "\n")  # CSV's own line ends
    assert "bidi" in shown
    assert RAW.search(shown) is None


def test_the_parser_knows_the_formats_that_there_are() -> None:
    assert set(arguments.FORMATS) == set(FORMATS)


def test_runs_known_to_the_dashboard_are_found_by_their_agent() -> None:
    run_agent("crawler")
    reader = Reader()
    assert reader.session(find_run(reader, "crawler")).session.agent_id == "crawler"
