"""``completion``: each shell offers what may come next, and a recorded name is never more than a name to it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyjama_instrument.cli import COMMANDS, arguments, main
from pyjama_instrument.cli.completion_scripts import script
from pyjama_instrument.export import FORMATS
from tests.stores import SESSION, a_call, dead_journal, session_begins, session_ends

SHELLS = ("bash", "zsh", "fish")
HANG_SECONDS = 60.0
OTHER = "0123456789abcdef" * 2

# zsh completes only in an interactive shell: the words are written to a file instead of the screen.
ZSH_CAPTURE = """
PS1=; autoload -U compinit; compinit -D -u; source {script}
compadd() {{
    local -a hits
    builtin compadd -A hits "$@"
    print -rl -- "${{(@)hits}}" >> {out}
    builtin compadd "$@"
}}
finished() {{ print END >> {out}; }}
comppostfuncs=(finished)
print READY
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the command ``pyjama`` and the script of each shell."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "pyjama"
    package = Path(__file__).resolve().parents[2]
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{package}" exec "{sys.executable}" -m pyjama_instrument "$@"\n')
    command.chmod(0o755)
    for shell in SHELLS:
        (folder / f"script.{shell}").write_text("\n".join(script(shell)))
    return folder


@pytest.fixture
def shell_scripts(folder: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That directory, on the path."""
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def offered(shell: str, folder: Path, line: str) -> set[str]:
    """What the shell offers at the end of the line."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    source = folder / f"script.{shell}"
    if shell == "zsh":
        return _offered_by_zsh(source, line)
    if shell == "fish":
        code = f"source {source}; complete -C '{line}'"
    else:
        words = " ".join(f'"{word}"' for word in line.split(" "))
        code = (
            f"source {source}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _pyjama; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
    done = subprocess.run([shell, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return {each.partition("\t")[0] for each in done.stdout.splitlines()} - {""}


def _offered_by_zsh(source: Path, line: str) -> set[str]:
    out, capture = source.with_name("out"), source.with_name("capture")
    out.write_text("")
    capture.write_text(ZSH_CAPTURE.format(script=source, out=out))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"TERM": "dumb"})
    try:
        os.write(terminal, f"source {capture}\n".encode())
        _wait_for(terminal, lambda shown: b"READY\r" in shown)
        os.write(terminal, line.encode() + b"\t")
        _wait_for(terminal, lambda _: out.read_text().endswith("END\n"))
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return {*out.read_text().splitlines()} - {"END", ""}


def _wait_for(terminal: int, condition: object) -> None:
    assert callable(condition)
    shown, deadline = b"", time.monotonic() + HANG_SECONDS
    while not condition(shown):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.05)[0]:
            shown += os.read(terminal, 4096)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pyjama st", {"status"}),
        ("pyjama help ex", {"export"}),
        ("pyjama export --format ", set(FORMATS)),
        ("pyjama --home /tmp export --form", {"--format"}),
        ("pyjama top --sort ", set(arguments.SORTS)),
        ("pyjama completion ", set(arguments.SHELLS)),
        ("pyjama tail --ag", {"--agent"}),
        ("pyjama tail --status ", set(arguments.STATUSES)),
    ],
)
def test_a_shell_offers_what_may_come_next(shell_scripts: Path, shell: str, line: str, words: set[str]) -> None:
    found = offered(shell, shell_scripts, line)
    assert words <= found
    assert {each for each in found if not each.startswith("-")} <= words


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pyjama show ", {"crawler", "reader", SESSION[:8], OTHER[:8], "latest"}),
        ("pyjama show craw", {"crawler"}),
        (f"pyjama export {SESSION[:3]}", {SESSION[:8]}),
        ("pyjama tail --agent ", {"crawler", "reader"}),
        ("pyjama tail --tool ", {"fetch", "parse"}),
        ("pyjama run --agent re", {"reader"}),
    ],
)
def test_a_shell_offers_recorded_names(
    shell_scripts: Path, own_store: Path, shell: str, line: str, words: set[str]
) -> None:
    dead_journal(own_store, session_begins(agent="crawler"), a_call("fetch", agent="crawler"), session_ends())
    dead_journal(own_store, session_begins(OTHER, "reader"), a_call("parse", OTHER, "reader"), session_ends(OTHER))
    found = offered(shell, shell_scripts, line)
    assert {each for each in found if not each.startswith("-")} == words


@pytest.mark.parametrize("shell", SHELLS)
def test_recorded_names_come_from_the_store_that_is_given(
    shell_scripts: Path, tmp_path: Path, own_store: Path, shell: str
) -> None:
    other = tmp_path / "other"
    dead_journal(other, session_begins(agent="elsewhere"))
    assert "elsewhere" in offered(shell, shell_scripts, f"pyjama --home {other} tail --agent ")
    assert "elsewhere" not in offered(shell, shell_scripts, "pyjama tail --agent ")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line", ["pyjama run --agent a -- gre", "pyjama run --agent a gre", "pyjama run --agent a -- env gre"]
)
def test_a_shell_offers_programs_after_run(shell_scripts: Path, shell: str, line: str) -> None:
    if shell == "bash" and "env" in line:
        pytest.skip("bash needs the package bash-completion for that")
    assert "grep" in offered(shell, shell_scripts, line)


HARMFUL = ["$(touch harmed)", "`touch harmed`", "a b; touch harmed", "*", "'quoted\" \\ name", "-f", "größe"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_recorded_name_is_not_expanded(
    shell_scripts: Path, own_store: Path, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate([*HARMFUL, "line\nbreak"]):
        dead_journal(own_store, session_begins(f"{number:032x}", name))
    found = offered(shell, shell_scripts, "pyjama tail --agent ")
    assert len([each for each in found if "touch" in each]) == 3
    assert not any("break" in each for each in found)
    assert not (tmp_path / "harmed").exists()


def test_a_name_with_a_colon_is_completed_after_it_in_bash(shell_scripts: Path, own_store: Path) -> None:
    dead_journal(own_store, session_begins(agent="team:crawler"))
    # bash splits words at colons.
    assert offered("bash", shell_scripts, "pyjama tail --agent team : cr") == {"crawler"}
    assert offered("bash", shell_scripts, "pyjama tail --agent = te") == {"team:crawler"}


def test_the_zsh_script_registers_itself_when_it_is_sourced(shell_scripts: Path) -> None:
    source = shell_scripts / "script.zsh"
    assert all(f"{command})" in source.read_text() for command in ("status", "export", "completion"))
    if shutil.which("zsh") is None:
        pytest.skip("no zsh on this machine")
    code = f"autoload -U compinit; compinit -D; source {source}; print $_comps[pyjama]"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("_pyjama\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert [command for command in (*COMMANDS, "help") if command not in shown] == []


def test_names_are_printed_with_a_description(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead_journal(own_store, session_begins(agent="crawler"), a_call("fetch", agent="crawler"), session_ends())
    shown = []
    for kind in arguments.VALUES:
        assert main(["completion", "--values", kind]) == 0
        shown.append(capsys.readouterr().out)
    assert shown == ["crawler\tcompleted\n", "fetch\t1 call\n", f"{SESSION[:8]}\tcrawler, completed\n"]


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["bash", "--home", "/x"], ["bash", "--values", "agents"], []], ids=str)
def test_an_option_that_would_have_no_effect_is_refused(options: list[str]) -> None:
    assert main(["completion", *options]) == 2
