"""``pyjama demo``: the dashboard and some example agents, one of which fails and one of which is killed."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pyjama_instrument.cli.demo_agent import MODEL_TOOL
from pyjama_instrument.cli.terminal import print_error, print_line, style, wait_for_interrupt
from pyjama_instrument.config import disabled_by_environment, resolve_home
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.presentation.formatting import count, join_names, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.document import SessionSummary
    from pyjama_instrument.reader import Reader

__all__ = ["demo"]

_POLL_SECONDS = 0.1
_KILL_AFTER_SECONDS = 2.0
_MOST_NAMED = 3
_LONGEST_RUN_SECONDS = 120.0  # guards against a hang: the agents take a few seconds
_LONGEST_DELAY_SECONDS = 10.0  # from the end of a process until the store shows how its run ended


class _Agent(NamedTuple):
    """One agent of the demo, what it does, and how its run is to end."""

    name: str
    role: str
    ending: str


_AGENTS = (
    _Agent("software-versions", "analyze", "completed"),
    _Agent("software-versions", "analyze", "completed"),  # two runs of one agent at once are counted separately
    _Agent("dependency-audit", "analyze", "completed"),
    _Agent("nightly-report", "hurry", "failed"),  # fails early, while the others still run
    _Agent("release-notes", "hang", "crashed"),
)


@dataclass
class _Process:
    """The process of an agent, and what was observed of it so far."""

    agent: _Agent
    process: subprocess.Popen[bytes]
    log: Path
    stuck_since: float | None = None
    exited_since: float | None = None
    done: bool = False


def demo(options: argparse.Namespace) -> int:
    """Run the demo. With ``--once``, return when the agents have finished: 0 if each ended as it should.

    Raises:
        ConfigError: the path is not a directory, or recording is switched off.
        ViewerError: the extra ``viewer`` is missing, or the port is in use.
    """
    from pyjama_instrument.shared_metrics import clear_metrics
    from pyjama_instrument.viewer import start_dashboard

    project = _project(options.path)
    if disabled_by_environment():
        raise ConfigError("PYJAMA_DISABLED is set, so the agents would record nothing. Run: unset PYJAMA_DISABLED")
    signal.signal(signal.SIGTERM, _exit)
    served = start_dashboard(options.port, clear=clear_metrics)
    try:
        print_line(f"Dashboard: {style(served.url, 'bold')}")
        print_line(f"Store: {printable(resolve_home())}")
        print_line(f"{len(_AGENTS)} runs analyse {printable(project)}. One fails and one is killed, on purpose:")
        good = _run_agents(project)
        if options.once:
            return 0 if good else 1
        print_line(f"The dashboard stays at {served.url} until Ctrl-C.")
        print_line("To delete these runs and all other finished runs in the store, run: pyjama clear")
        wait_for_interrupt()
    finally:
        served.stop()
    return 0


def _project(path: str | None) -> Path:
    if path is not None:
        project = Path(path).expanduser()
        if not project.is_dir():
            raise ConfigError(f"{path} is not a directory. Give a directory to analyse, or none for this package")
        return project.resolve()
    package = Path(__file__).resolve().parent.parent
    return package.parent if (package.parent / "pyproject.toml").is_file() else package


def _exit(*_: object) -> NoReturn:
    """SIGTERM ends the demo as Ctrl-C does: the agents and temporary files are removed."""
    sys.exit(128 + signal.SIGTERM)


def _run_agents(project: Path) -> bool:
    """Run the agents and print how each run ended. Returns whether each ended as it should."""
    from pyjama_instrument.reader import Reader

    reader = Reader()
    known = set(reader.dashboard().sessions)
    deadline = time.monotonic() + _LONGEST_RUN_SECONDS
    good = True
    with tempfile.TemporaryDirectory(prefix="pyjama-demo-") as scratch, _processes(project, Path(scratch)) as processes:
        while waiting := [each for each in processes if not each.done]:
            sessions = {key: each for key, each in reader.dashboard().sessions.items() if key not in known}
            for each in waiting:
                good &= _check(each, _session_of(each, sessions), deadline)
            time.sleep(_POLL_SECONDS)
    _print_totals(reader)
    return good


@contextlib.contextmanager
def _processes(project: Path, scratch: Path) -> Iterator[list[_Process]]:
    """The processes of all agents; those that still run at the end of the block are killed."""
    processes: list[_Process] = []
    try:
        for number, agent in enumerate(_AGENTS):
            processes.append(_start(agent, project, scratch, number))
        yield processes
    finally:
        for each in processes:
            each.process.kill()
            each.process.wait()


def _start(agent: _Agent, project: Path, scratch: Path, number: int) -> _Process:
    out, log = scratch / f"report-{number}", scratch / f"log-{number}"
    if agent.ending == "failed":
        out.write_text("The agent fails because this file has the name of its report directory.\n")
    command = [sys.executable, "-m", "pyjama_instrument.cli.demo_agent", agent.role, agent.name, str(project), str(out)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    return _Process(agent, process, log)


def _session_of(process: _Process, sessions: dict[str, SessionSummary]) -> SessionSummary | None:
    for session in sessions.values():
        if session.agent_id == process.agent.name and session.pid == process.process.pid:
            return session
    return None


def _check(process: _Process, session: SessionSummary | None, deadline: float) -> bool:
    """Kill the process if it is time, and print how its run ended. Returns False if another end was expected."""
    now = time.monotonic()
    if process.process.poll() is None:
        if now > deadline or _has_been_stuck(process, session, now):
            process.process.kill()
        return True
    process.exited_since = process.exited_since or now
    if (session is None or session.status == "running") and now - process.exited_since < _LONGEST_DELAY_SECONDS:
        return True  # the store does not show the end yet
    process.done = True
    agent = process.agent
    status = session.status if session is not None else "unseen"
    print_line(f"  {agent.name:18} {style(status.ljust(10), status)} {printable(_ending(session))}")
    if status == agent.ending:
        return True
    print_error(f"{agent.name} should have ended as {agent.ending}. {_last_line(process.log)}")
    return False


def _has_been_stuck(process: _Process, session: SessionSummary | None, now: float) -> bool:
    """Whether the agent that is to be killed has been in its long call for long enough to be noticed."""
    if process.agent.ending != "crashed" or session is None:
        return False
    if process.stuck_since is None and any(call.tool == MODEL_TOOL for call in session.in_flight):
        process.stuck_since = now
    return process.stuck_since is not None and now - process.stuck_since > _KILL_AFTER_SECONDS


def _ending(session: SessionSummary | None) -> str:
    if session is None:
        return ""
    if session.status == "crashed":
        return f"killed in {join_names([call.tool for call in session.interrupted], _MOST_NAMED) or 'no call'}"
    if session.status == "failed" and session.error is not None:
        return problem(session.error.type, session.error.message)
    return count(session.calls, "tool call")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), None)
    return f"Its last line on standard error: {last}" if last else "It printed nothing on standard error"


def _print_totals(reader: Reader) -> None:
    overall = reader.dashboard().metrics.global_
    print_line(f"The store now has {count(overall.count, 'tool call')} and {count(overall.error, 'error')}.")
