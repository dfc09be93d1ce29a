"""Commands on a real terminal: what is drawn, what keys do, and that the terminal is left as it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.cli import dashboard_url
from pyjama_instrument.viewer import start_dashboard
from pyjama_instrument.viewer.server import DEFAULT_PORT
from tests.stores import Writer, a_call, call_begins, dead_journal, session_begins, session_ends

HANG_SECONDS = 60.0
PYJAMA = [sys.executable, "-W", "error", "-m", "pyjama_instrument"]
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal with a command on it, as a shell would start one."""

    def __init__(self, *args: str, script: str = 'exec "$@"', columns: int = 100, lines: int = 24) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        self.shown = ""
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        # The first terminal that a session's leader opens is the one that Ctrl-C and Ctrl-Z come from.
        name = os.ttyname(self.theirs)
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec <{name} >{name} 2>&1; {script}", "bash", *PYJAMA, *args],
            env=environment | {"TERM": "xterm"},
            start_new_session=True,
        )

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def read(self) -> None:
        """Take what has been shown, if anything has."""
        ready, _, _ = select.select([self.ours], [], [], 0.05)
        if ready:
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                self.shown += os.read(self.ours, 65536).decode()

    def wait_for(self, condition: Callable[[str], object]) -> None:
        """Until the condition holds of what has been shown since the last time."""
        deadline = time.monotonic() + HANG_SECONDS
        while not condition(self.shown):
            assert time.monotonic() < deadline, f"timed out; shown was:\n{self.shown!r}"
            self.read()

    def wait(self) -> int:
        deadline = time.monotonic() + HANG_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read()
        self.read()
        return self.process.returncode

    def last_frame(self) -> list[str]:
        """The lines of the last whole frame, without colours."""
        frame = self.shown.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return [_SEQUENCE.sub("", line) for line in frame.replace("\r", "").split("\n")]

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.theirs) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


Start = Callable[..., Terminal]


@pytest.fixture
def start(own_store: Path) -> Iterator[Start]:
    terminals: list[Terminal] = []

    def start(*args: str, **settings: Any) -> Terminal:
        terminals.append(Terminal(*args, **settings))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def drawn(shown: str) -> bool:
    return "\x1b[J" in shown


# --- top


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "Ctrl-C"])
def test_top_ends_with_0_and_leaves_the_terminal_as_it_was(start: Start, own_store: Path, key: str) -> None:
    dead_journal(own_store, session_begins(), a_call())
    terminal = start("top")
    terminal.wait_for(drawn)
    assert not terminal.is_as_before()
    terminal.type(key)
    assert terminal.wait() == 0
    assert terminal.is_as_before()
    assert terminal.shown.count(ENTER) == terminal.shown.count(LEAVE) == 1
    assert terminal.shown.endswith(LEAVE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_top_that_a_signal_ends_leaves_the_terminal_as_it_was(start: Start, number: signal.Signals) -> None:
    terminal = start("top")
    terminal.wait_for(drawn)
    terminal.process.send_signal(number)
    assert terminal.wait() == 128 + number
    assert terminal.is_as_before()
    assert terminal.shown.endswith(LEAVE)


def test_top_that_is_stopped_gives_the_terminal_back_and_takes_it_again(start: Start) -> None:
    # Only a job of a shell can be stopped: without a shell, nothing would continue it.
    terminal = start("top", "--interval", "0.1", script='set -m; "$@"; echo stopped; read; fg >/dev/null')
    terminal.wait_for(drawn)
    terminal.type("\x1a")
    terminal.wait_for(lambda shown: "stopped" in shown)
    assert LEAVE in terminal.shown
    assert terminal.is_as_before()
    terminal.shown = ""
    terminal.type("\n")
    terminal.wait_for(lambda shown: ENTER in shown and drawn(shown))
    terminal.type("q")
    assert terminal.wait() == 0
    assert terminal.is_as_before()


def test_top_shows_what_is_recorded_meanwhile(start: Start, own_store: Path) -> None:
    terminal = start("top", "--interval", "0.1")
    terminal.wait_for(drawn)
    writer = Writer(own_store)
    writer.write(session_begins(agent="late"), call_begins("slow", agent="late"))
    terminal.wait_for(lambda _: any(re.match(r"late +running .* in slow ", line) for line in terminal.last_frame()))
    writer.write(*[a_call("quick", agent="late") for _ in range(3)])
    terminal.wait_for(lambda _: any(re.match(r"quick +3 +0 ", line) for line in terminal.last_frame()))
    writer.die()
    terminal.wait_for(lambda _: any(re.match(r"late +crashed ", line) for line in terminal.last_frame()))


def test_a_key_sorts_at_once_and_again_the_other_way(start: Start, own_store: Path) -> None:
    dead_journal(own_store, *[a_call("often") for _ in range(3)], a_call("wrong", status="error"))
    terminal = start("top", "--interval", "3600")

    def first() -> str:
        return next((line.split()[0] for line in terminal.last_frame() if re.match("often|wrong", line)), "")

    terminal.wait_for(lambda _: first() == "often")
    for key, name in (("e", "wrong"), ("e", "often"), ("n", "often"), ("n", "wrong"), ("x", "wrong"), ("c", "often")):
        terminal.shown = ""
        terminal.type(key)
        terminal.wait_for(drawn)
        assert (key, first()) == (key, name)


def test_keys_that_come_at_once_each_have_their_effect_and_arrows_do_not_sort(start: Start, own_store: Path) -> None:
    dead_journal(own_store, *[a_call("often") for _ in range(3)], a_call("wrong", status="error"))
    terminal = start("top", "--interval", "3600")
    terminal.wait_for(drawn)
    terminal.shown = ""
    terminal.type("\x1b[A")
    terminal.wait_for(drawn)
    terminal.shown = ""
    terminal.type("nn")
    terminal.wait_for(drawn)
    assert next(line.split()[0] for line in terminal.last_frame() if re.match("often|wrong", line)) == "wrong"
    terminal.type("cq")
    assert terminal.wait() == 0


def test_the_arrow_and_page_keys_scroll(start: Start, own_store: Path) -> None:
    for number in range(20):
        session = f"{number:032x}"
        dead_journal(
            own_store, session_begins(session, f"agent-{number:02}"), session_ends(session, f"agent-{number:02}")
        )
    terminal = start("top", "--interval", "3600", "--sort", "name")

    def first() -> str:
        return next((line.split()[0] for line in terminal.last_frame() if line.startswith("agent-")), "")

    terminal.wait_for(lambda _: first() == "agent-00")
    for keys, agent in (
        ("\x1b[B", "agent-01"),
        ("jj", "agent-03"),
        ("\x1b[A", "agent-02"),
        ("\x1bOA\x1b[A", "agent-00"),
    ):
        terminal.type(keys)
        terminal.wait_for(lambda _, agent=agent: first() == agent)
    terminal.type("\x1b[6~")
    terminal.wait_for(lambda _: first() > "agent-00")
    terminal.type("\x1b[F")
    terminal.wait_for(lambda _: any(line.startswith("agent-19 ") for line in terminal.last_frame()))
    terminal.type("\x1b[B\x1b[H")
    terminal.wait_for(lambda _: first() == "agent-00")


def test_a_question_mark_shows_and_hides_the_keys(start: Start, own_store: Path) -> None:
    dead_journal(own_store, session_begins(), a_call())
    terminal = start("top", "--interval", "3600")
    terminal.wait_for(drawn)
    for keys, shown in (("?", True), ("?", False), ("?", True), ("\x1b", False)):
        terminal.shown = ""
        terminal.type(keys)
        terminal.wait_for(drawn)
        assert any(re.match(r"PgUp, PgDn +scroll", line) for line in terminal.last_frame()) == shown


@pytest.mark.parametrize(
    ("columns", "keys"), [(20, "q exit  ? keys"), (40, "scroll"), (80, "n name"), (100, "reverse")]
)
def test_the_last_line_names_as_many_keys_as_fit(start: Start, columns: int, keys: str) -> None:
    terminal = start("top", columns=columns)
    terminal.wait_for(drawn)
    assert terminal.last_frame()[-1].endswith(keys)
    assert terminal.last_frame()[-1].startswith("q exit")


def test_no_line_is_longer_than_the_terminal_and_no_frame_higher(start: Start, own_store: Path) -> None:
    calls = [a_call(f"tool {n} " + "日本" * 60) for n in range(60)]
    dead_journal(own_store, session_begins(agent="x" * 200), *calls)
    terminal = start("top", "--interval", "0.1", columns=60, lines=20)
    for columns, lines in ((60, 20), (33, 14)):
        terminal.resize(columns, lines)
        terminal.shown = ""
        terminal.wait_for(lambda shown, lines=lines: drawn(shown) and len(terminal.last_frame()) == lines)
        frame = terminal.last_frame()
        assert max(len(line) + len(re.findall("[日本]", line)) for line in frame) <= columns
        assert any("crashed" in line for line in frame[4:])
        assert any("日" in line for line in frame)


def test_top_without_a_keyboard_goes_on_until_it_is_interrupted(own_store: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*PYJAMA, "top", "--interval", "0.1"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert child.stderr is not None
    shown = b""
    while shown.count(b"\x1b[J") < 3:
        try:
            shown += os.read(ours, 4096)
        except OSError as error:  # EIO: it is gone
            raise AssertionError(f"it ended with {child.wait(HANG_SECONDS)}: {child.stderr.read()!r}") from error
    child.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):
        while os.read(ours, 4096):
            pass
    assert (child.wait(HANG_SECONDS), child.stderr.read()) == (0, b"")
    child.stderr.close()
    os.close(ours)


# --- the others


@pytest.mark.parametrize("columns", [40, 80])
def test_status_on_a_terminal_keeps_each_row_to_its_line(start: Start, own_store: Path, columns: int) -> None:
    dead_journal(own_store, session_begins(agent="a" * 100), call_begins("fetch" * 20), a_call(tool="t" * 100))
    terminal = start("status", columns=columns)
    terminal.wait()
    lines = [_SEQUENCE.sub("", line) for line in terminal.shown.replace("\r", "").split("\n")]
    tables = lines[next(at for at, line in enumerate(lines) if line.startswith("AGENT")) :]
    assert all(len(line) <= columns for line in tables)
    assert any("crashed" in line for line in tables)


def test_status_in_a_pipe_has_room_for_every_column(own_store: Path) -> None:
    dead_journal(own_store, session_begins(agent="a" * 40), call_begins("fetch" * 9))
    env = os.environ | {"COLUMNS": "40"}
    done = subprocess.run([*PYJAMA, "status"], check=False, capture_output=True, text=True, env=env)
    assert f"{'a' * 40}  crashed" in done.stdout
    assert f"in {'fetch' * 9}" in done.stdout


def test_tail_on_a_terminal_is_coloured_by_status(start: Start, own_store: Path) -> None:
    dead_journal(own_store, a_call(), a_call(status="error"))
    terminal = start("tail")
    assert terminal.wait() == 0
    assert "\x1b[32mok\x1b[0m" in terminal.shown
    assert "\x1b[31merror\x1b[0m" in terminal.shown


def test_tail_that_follows_ends_with_ctrl_c_and_no_traceback(start: Start, own_store: Path) -> None:
    dead_journal(own_store, a_call())
    terminal = start("tail", "-f")
    terminal.wait_for(lambda shown: "tool.ended" in shown)
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.shown


def test_a_long_export_shows_its_progress_and_removes_it(start: Start, own_store: Path, tmp_path: Path) -> None:
    writer = Writer(own_store)
    for _ in range(60):
        writer.write(*[a_call(arguments={"q": "x" * 500}) for _ in range(300)])
    writer.die()
    # A hook in the child makes any machine slow enough for the line to be of use.
    (tmp_path / "sitecustomize.py").write_text(
        "import time, pyjama_instrument.cli.progress_bar as p\np._DELAY_SECONDS = 0.0\np._INTERVAL_SECONDS = 0.0\n"
    )
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        terminal = start("export", "--all", "-o", str(tmp_path / "all.csv"))
    finally:
        del os.environ["PYTHONPATH"]
    assert terminal.wait() == 0
    assert re.search(r"\r\[#+\.*\] +\d+% of \d+ MiB", terminal.shown)
    assert re.search(r"\r\x1b\[KWrote .*all\.csv, [\d,]+ bytes\r\n$", terminal.shown)


# --- where a run can be seen


def test_run_on_a_terminal_prints_how_to_see_the_run(start: Start) -> None:
    terminal = start("run", "--agent", "nightly", "--", "echo", "made")
    assert terminal.wait() == 0
    shown = re.search(r"pyjama: nightly, run ([0-9a-f]{32})\r\npyjama: to see it, (.*)\r\nmade\r\n", terminal.shown)
    assert shown is not None
    url = f"http://127.0.0.1:{DEFAULT_PORT}/#/run/{shown[1]}"
    assert shown[2] in (f"run: pyjama show {shown[1][:8]}", f"open: {url}")


def test_run_in_a_pipe_prints_nothing_of_its_own_unless_verbose(own_store: Path) -> None:
    command = [*PYJAMA, "run", "--agent", "nightly"]
    quiet, verbose = (
        subprocess.run([*command, *more, "--", "true"], capture_output=True, text=True, timeout=60, check=True)
        for more in ([], ["--verbose"])
    )
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert verbose.stdout == ""
    assert re.fullmatch(r"pyjama: nightly, run .*\npyjama: to see it, .*\n", verbose.stderr)


def test_the_address_is_that_of_a_dashboard_which_shows_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    @tool
    def work() -> None: ...

    with start_dashboard(0) as dashboard:
        monkeypatch.setattr(dashboard_url, "PORTS", [1, dashboard.port])
        with agent_session("größe / 1") as run:
            work()
            assert dashboard_url.url_of_run(run.agent, run.id) == f"{dashboard.url.rstrip('/')}/#/run/{run.id}"
            assert dashboard_url.url_of_run("other", run.id) is None


def test_a_dashboard_is_looked_for_where_one_is_by_default() -> None:
    assert DEFAULT_PORT in dashboard_url.PORTS
