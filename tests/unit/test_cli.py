"""The command line: its arguments, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pyjama_instrument import agent_session, cli, flush, tool
from pyjama_instrument.cli.parser import parse
from pyjama_instrument.reader import get_dashboard_data
from tests.conftest import RunPython

Pyjama = Callable[..., "subprocess.CompletedProcess[str]"]

HOSTILE = "a\x1b[31m\x9bred\r\n\u202ebidi"
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
COMMANDS = [*cli.COMMANDS, "help"]


@pytest.fixture
def pyjama(own_store: Path) -> Pyjama:
    """Run the command in a child with warnings as errors, on the test's own store."""

    def run(*args: str, returncode: int = 0, **settings: object) -> subprocess.CompletedProcess[str]:
        settings = {"stdin": subprocess.DEVNULL, "env": dict(os.environ)} | settings
        done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]  # settings vary
            [sys.executable, "-W", "error", "-m", "pyjama_instrument", *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **settings,
        )
        if done.returncode != returncode:
            raise AssertionError(f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@tool("work")
def work(fail: bool = False) -> None:
    if fail:
        raise ValueError("no work today")


def run_agent(name: str, *, fail: bool = False) -> None:
    try:
        with agent_session(name) as run, run.step("only"):
            work(fail)
    except ValueError:
        pass


def on_a_terminal(*args: str, answer: bytes = b"") -> tuple[int, str]:
    """Run the command with a pseudo-terminal for all three streams; its exit code and what it showed."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "pyjama_instrument", *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    if answer:
        os.write(ours, answer)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # Linux answers EIO once the other side is closed
        pass
    os.close(ours)
    return child.wait(timeout=60), shown.decode()


# --- the command line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(pyjama: Pyjama, command: str) -> None:
    shown = pyjama(command, "--help").stdout
    assert f"  pyjama {command}" in shown.partition("examples:")[2]


def test_help_lists_every_command(pyjama: Pyjama) -> None:
    shown = pyjama("--help").stdout
    assert all(re.search(rf"^    {command}\b", shown, re.MULTILINE) for command in COMMANDS)


def test_help_loads_neither_the_models_nor_the_viewer(run_python: RunPython) -> None:
    code = "import sys; from pyjama_instrument.cli import main; main(['--help']); print(sorted(sys.modules))"
    loaded = run_python(code).stdout
    assert all(f"'{name}'" not in loaded for name in ("pydantic", "starlette", "uvicorn", "pyjama_instrument.reader"))


def test_version_is_that_of_the_distribution(pyjama: Pyjama) -> None:
    assert re.fullmatch(r"pyjama \S.*\n", pyjama("--version").stdout)


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["help", "nonsense"],
        ["status", "--nonsense"],
        ["tail", "-n", "-1"],
        ["dashboard", "--port", "70000"],
        ["run", "ls"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_with_2(pyjama: Pyjama, args: list[str]) -> None:
    done = pyjama(*args, returncode=2)
    assert done.stdout == ""
    assert "pyjama" in done.stderr


@pytest.mark.parametrize(
    "args",
    [["top", "--once", "--interval", "2"], ["completion", "bash", "--home", "/x"], ["export", "--all", "latest"]],
    ids=" ".join,
)
def test_what_would_have_no_effect_is_refused(pyjama: Pyjama, args: list[str]) -> None:
    assert pyjama(*args, returncode=2).stderr.startswith(f"usage: pyjama {args[0]}")


@pytest.mark.parametrize("args", [[], ["help"], ["--home", "/x"]], ids=" ".join)
def test_without_a_command_or_with_help_the_commands_are_listed(pyjama: Pyjama, args: list[str]) -> None:
    done = pyjama(*args)
    assert (done.stdout, done.stderr) == (pyjama("--help").stdout, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_the_same_as_its_option_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert cli.main(["help", command]) == 0
    shown = capsys.readouterr().out
    assert cli.main([command, "--help"]) == 0
    assert shown == capsys.readouterr().out


@pytest.mark.parametrize("width", [50, 80])
def test_help_is_as_wide_as_the_terminal_apart_from_its_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in COMMANDS:
        cli.main(["help", command])
        shown = capsys.readouterr().out.partition("examples:")[0]
        assert [line for line in shown.splitlines() if len(line) > width] == []


@pytest.mark.parametrize(
    ("args", "usage", "message"),
    [
        (["tail", "--nonsense"], "pyjama tail", "there is no option --nonsense"),
        (["tail", "--stauts=x"], "pyjama tail", "there is no option --stauts. Did you mean --status?"),
        (["run", "--agnet", "a", "--", "ls"], "pyjama run", "there is no option --agnet. Did you mean --agent?"),
        (["--verison"], "pyjama", "there is no option --verison. Did you mean --version?"),
        (["stauts"], "pyjama", "there is no command 'stauts'. Did you mean status?"),
        (["dash"], "pyjama", "there is no command 'dash'. Did you mean dashboard?"),
        (["xyzzy"], "pyjama", "there is no command 'xyzzy'"),
        (["help", "exprot"], "pyjama help", "there is no command 'exprot'. Did you mean export?"),
        (["top", "--sort", "eror"], "pyjama top", "--sort: 'eror' is not one of .*, name. Did you mean errors?"),
        (["export", "--format", "cvs"], "pyjama export", "--format: 'cvs' is not one of .*, html. Did you mean csv?"),
        (["completion", "tcsh"], "pyjama completion", "SHELL: 'tcsh' is not one of bash, zsh, fish"),
        (["show", "a", "b"], "pyjama show", "unexpected argument 'b'"),
        (["status", "--", "x"], "pyjama status", "unexpected argument after --: 'x'"),
        (["run", "--", "ls"], "pyjama run", "--agent is missing. For example: pyjama run --agent NAME -- .*"),
        (["completion"], "pyjama completion", "name a shell. For example: pyjama completion bash"),
    ],
    ids=str,
)
def test_a_wrong_word_is_answered_with_the_usage_of_its_command_and_the_nearest_right_one(
    capsys: pytest.CaptureFixture[str], args: list[str], usage: str, message: str
) -> None:
    assert cli.main(args) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"usage: {usage} [-h]")
    assert re.search(rf"^{usage}: {re.sub(r'[?(]', lambda sign: chr(92) + sign[0], message)}$", shown.err, re.MULTILINE)
    assert shown.err.endswith(f"\nFor help, run: {usage} --help\n")


@pytest.mark.parametrize(
    "args",
    [
        ["tail", "-n", "abc"],
        ["tail", "-n", "1.5"],
        ["top", "--interval", "x"],
        ["top", "--interval", "nan"],
        ["dashboard", "--port", "abc"],
        ["demo", "--port", "-1"],
    ],
    ids=" ".join,
)
def test_a_number_that_is_none_is_named_with_what_is_wanted(pyjama: Pyjama, args: list[str]) -> None:
    error = pyjama(*args, returncode=2).stderr.splitlines()[-2]
    assert re.search(rf"argument .*: '{re.escape(args[-1])}' is not a .*(number|port)", error)
    assert not re.search(r"\b_\w|invalid", error)


def test_run_without_a_command_is_refused_with_2(pyjama: Pyjama) -> None:
    assert "the command to run is missing" in pyjama("run", "--agent", "a", "--", returncode=2).stderr


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["run", "--agent", "a", "--", "ls", "-l"], ["ls", "-l"]),
        (["run", "--agent", "a", "ls", "-l", "--home", "x"], ["ls", "-l", "--home", "x"]),
        (["run", "--agent", "a", "--", "git", "log", "--", "x"], ["git", "log", "--", "x"]),
        (["run", "--agent", "a", "git", "log", "--", "x"], ["git", "log", "--", "x"]),
        (["run", "--agent", "a", "--", "--odd"], ["--odd"]),
    ],
)
def test_run_hands_on_its_command_exactly_as_it_was_given(given: Sequence[str], command: list[str]) -> None:
    assert parse(given).command_line == command


@pytest.mark.parametrize("args", [["--home", "/x", "status"], ["status", "--home", "/x"]], ids=" ".join)
def test_home_may_be_given_before_and_after_the_command(args: list[str]) -> None:
    assert parse(args).home == "/x"


def test_home_decides_before_the_environment(pyjama: Pyjama, tmp_path: Path, own_store: Path) -> None:
    pyjama("--home", str(tmp_path / "other"), "run", "--agent", "a", "--", "true")
    assert set(get_dashboard_data(tmp_path / "other").agents) == {"a"}
    assert not own_store.exists()


@pytest.mark.parametrize("command", ["status", "top", "show", "tail", "export", "clear"])
def test_a_home_that_holds_no_store_is_named_and_not_made(pyjama: Pyjama, tmp_path: Path, command: str) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.write_text("")
    yes = ["--yes"] * (command == "clear")
    done = pyjama("--home", str(missing), command, *yes, returncode=2)
    assert (done.stdout, str(missing) in done.stderr, "--home" in done.stderr) == ("", True, True)
    assert not missing.exists()
    for given, environment in ((["--home", str(file)], {}), ([], {"PYJAMA_HOME": str(file)})):
        done = pyjama(*given, command, *yes, returncode=2, env=os.environ | environment)
        assert re.fullmatch(rf"pyjama: {re.escape(str(file))} is not a directory.*\n", done.stderr)


@pytest.mark.parametrize("command", ["status", "top", "show", "tail", "export", "clear"])
def test_a_home_with_other_files_and_no_store_is_named_and_not_touched(
    pyjama: Pyjama, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    done = pyjama("--home", str(folder), command, *["--yes"] * (command == "clear"), returncode=2)
    assert (done.stdout, f"there is no store at {folder}, only other files" in done.stderr) == ("", True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("command", ["status", "top", "show", "tail", "export", "clear"])
@pytest.mark.parametrize("options", [[], ["--home", "closed"]], ids=" ".join)
def test_a_store_that_cannot_be_read_is_an_error_and_not_an_empty_store(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYJAMA_HOME", str(tmp_path / "closed"))
    (tmp_path / "closed").mkdir()

    def refuse(path: str) -> list[str]:  # root may read everything
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert cli.main([*options, command, *["--yes"] * (command == "clear")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"pyjama: cannot read {tmp_path / 'closed'}: Permission denied. ")


def test_a_home_that_is_an_empty_directory_is_an_empty_store(pyjama: Pyjama, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "Nothing is recorded yet" in pyjama("--home", str(tmp_path / "empty"), "status").stdout


@pytest.mark.parametrize("command", [["run", "--agent", "a", "--", "true"], ["dashboard"], ["demo", "--once"]], ids=str)
def test_a_home_that_is_a_file_is_refused_by_commands_that_record(
    pyjama: Pyjama, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    done = pyjama("--home", str(tmp_path / "file"), *command, returncode=2)
    assert "is not a directory" in done.stderr


def test_an_error_is_one_line_and_2(pyjama: Pyjama) -> None:
    done = pyjama("--home", "", "status", returncode=2)
    assert done.stdout == ""
    assert re.fullmatch(r"pyjama: .+\n", done.stderr)


def test_a_missing_viewer_is_one_helpful_sentence_and_2(pyjama: Pyjama, tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('gone', name='starlette')")
    done = pyjama("dashboard", returncode=2, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=Path.cwd())
    assert re.fullmatch(r"pyjama: .*pip install 'pyjama_instrument\[viewer\]'.*\n", done.stderr)


# --- status


def test_status_of_an_empty_store_names_the_demo(pyjama: Pyjama, own_store: Path) -> None:
    assert "pyjama demo" in pyjama("status").stdout
    assert not own_store.exists()


def test_status_shows_each_agent_and_tool(pyjama: Pyjama) -> None:
    run_agent("crawler")
    shown = pyjama("status").stdout
    assert re.search(r"^crawler +completed +1 ", shown, re.MULTILINE)
    assert re.search(r"^work +1 +0 ", shown, re.MULTILINE)


def test_status_is_1_when_the_last_run_of_an_agent_failed(pyjama: Pyjama) -> None:
    run_agent("crawler", fail=True)
    run_agent("other")
    assert "no work today" in pyjama("status", returncode=1).stdout


def test_status_is_0_again_when_a_later_run_of_the_agent_went_well(pyjama: Pyjama) -> None:
    run_agent("crawler", fail=True)
    run_agent("crawler")
    pyjama("status", returncode=0)


def test_status_is_1_while_a_run_is_under_way_after_one_that_failed(pyjama: Pyjama) -> None:
    run_agent("crawler", fail=True)
    with agent_session("crawler"):
        pyjama("status", returncode=1)


def test_status_is_1_after_a_crash_and_names_the_tool(pyjama: Pyjama, run_python: RunPython) -> None:
    run_python(
        "import os\n"
        "from pyjama_instrument import agent_session, tool\n"
        "@tool\n"
        "def doomed(): os._exit(9)\n"
        "with agent_session('crawler'): doomed()",
        returncode=9,
    )
    assert re.search(r"^crawler +crashed +1 .* in doomed$", pyjama("status", returncode=1).stdout, re.MULTILINE)


def test_status_as_json_is_the_dashboard_data(pyjama: Pyjama) -> None:
    run_agent("crawler")
    assert json.loads(pyjama("status", "--json").stdout)["agents"]["crawler"]["status"] == "completed"


def test_status_of_a_store_of_a_newer_version_is_one_line_that_asks_for_an_upgrade_and_2(
    pyjama: Pyjama, own_store: Path
) -> None:
    own_store.mkdir(mode=0o700)
    (own_store / "metrics.json").write_text('{"schema": 999}')
    assert re.fullmatch(r"pyjama: .*upgrade.*\n", pyjama("status", returncode=2).stderr)


def test_status_does_not_write(pyjama: Pyjama, own_store: Path, run_python: RunPython) -> None:
    # Recorded by a process that is gone: a live one folds when it sees fit.
    run_python("from pyjama_instrument import tool; tool('work')(len)('x')")
    before = {path: path.stat().st_mtime_ns for path in own_store.rglob("*")}
    pyjama("status")
    assert {path: path.stat().st_mtime_ns for path in own_store.rglob("*")} == before


# --- tail


def test_tail_shows_the_last_events_in_order(pyjama: Pyjama) -> None:
    run_agent("crawler")
    lines = pyjama("tail", "-n", "2").stdout.splitlines()
    assert ["step.ended" in lines[0], "session.ended" in lines[1]] == [True, True]


def test_tail_of_fewer_events_than_were_asked_for_shows_them_all(pyjama: Pyjama) -> None:
    run_agent("crawler")
    everything = pyjama("tail", "-n", "1000").stdout
    count = len(everything.splitlines())
    assert pyjama("tail", "-n", str(count + 1)).stdout == everything


def test_tail_as_json_is_one_event_a_line(pyjama: Pyjama) -> None:
    run_agent("crawler", fail=True)
    events = [json.loads(line) for line in pyjama("tail", "--json").stdout.splitlines()]
    failed = next(event for event in events if event["kind"] == "tool.ended")
    assert (failed["tool"], failed["status"], failed["error"]["message"]) == ("work", "error", "no work today")


def test_tail_that_follows_shows_what_is_recorded_later(own_store: Path) -> None:
    run_agent("early")
    command = [sys.executable, "-m", "pyjama_instrument", "tail", "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "early" in child.stdout.readline()
        run_agent("late")
        assert any("late" in line for line in child.stdout)
        child.send_signal(2)
        child.stdout.read()
    assert child.returncode == 130


def test_tail_that_follows_ends_when_its_reader_goes_although_nothing_happens(own_store: Path) -> None:
    run_agent("crawler")
    command = [sys.executable, "-m", "pyjama_instrument", "tail", "-f", "-n", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(timeout=60) in (0, 141)
    assert child.stderr.read() == ""
    child.stderr.close()


def test_a_pipe_whose_reader_is_gone_is_no_traceback(pyjama: Pyjama) -> None:
    run_agent("crawler")
    gone, ours = os.pipe()
    os.close(gone)
    command = [sys.executable, "-m", "pyjama_instrument", "status"]
    done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(ours)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", ["status", "tail", "show", "export"])
def test_an_output_that_is_full_is_one_line_and_2(pyjama: Pyjama, command: str) -> None:
    run_agent("crawler")
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    shell = f'exec "{sys.executable}" -m pyjama_instrument {command} >/dev/full'
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "pyjama: cannot write to standard output: No space left on device\n",
    )


@pytest.mark.parametrize("command", ["status", "--help", "tail"])
def test_a_standard_output_that_is_closed_gets_nothing(pyjama: Pyjama, command: str) -> None:
    run_agent("crawler")
    shell = f'exec "{sys.executable}" -m pyjama_instrument {command} >&-'
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what reaches a terminal


@pytest.mark.parametrize("args", [["status"], ["status", "--json"], ["tail"], ["tail", "--json"]], ids=" ".join)
def test_no_control_character_of_a_recorded_name_or_error_is_printed(pyjama: Pyjama, args: list[str]) -> None:
    @tool(HOSTILE)
    def hostile() -> None:
        raise ValueError(HOSTILE)

    with pytest.raises(ValueError, match="bidi"), agent_session(HOSTILE, workflow=[HOSTILE]) as run, run.step(HOSTILE):
        hostile()
    shown = pyjama(*args, returncode=args[0] == "status").stdout
    assert "bidi" in shown
    assert RAW.search(shown) is None


def test_names_that_the_encoding_of_the_output_lacks_are_escaped(pyjama: Pyjama) -> None:
    run_agent("größe")
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "gr\\xf6\\xdfe" in pyjama("status", env=env).stdout


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    run_agent("crawler")
    assert "\x1b[32mcompleted" in on_a_terminal("status")[1]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colour_gets_none(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    run_agent("crawler")
    shown = on_a_terminal("status")[1]
    assert "completed" in shown
    assert "\x1b" not in shown


def test_a_pipe_gets_no_colour(pyjama: Pyjama) -> None:
    run_agent("crawler")
    assert "\x1b" not in pyjama("status").stdout


# --- clear


def test_clear_with_yes_sets_the_totals_to_zero(pyjama: Pyjama) -> None:
    run_agent("crawler")
    flush()
    pyjama("clear", "--yes")
    data = get_dashboard_data()
    assert (data.agents, data.metrics.global_.count) == ({}, 0)


def test_clear_of_a_store_that_does_not_exist_makes_none(pyjama: Pyjama, own_store: Path) -> None:
    for options in (["--yes"], []):
        assert f"no store at {own_store}" in pyjama("clear", *options).stdout
    assert not own_store.exists()


def test_clear_without_a_terminal_needs_yes(pyjama: Pyjama) -> None:
    run_agent("crawler")
    assert "--yes" in pyjama("clear", returncode=2).stderr
    assert set(get_dashboard_data().agents) == {"crawler"}


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", set()), (b"\n", {"crawler"}), (b"\x04", {"crawler"})])
def test_clear_asks_at_a_terminal_and_only_yes_is_yes(answer: bytes, left: set[str]) -> None:
    run_agent("crawler")
    flush()
    code, _ = on_a_terminal("clear", answer=answer)
    assert (code, set(get_dashboard_data().agents)) == (0 if not left else 1, left)
