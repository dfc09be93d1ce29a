"""``pyjama demo``: the dashboard with some agents to look at, one of which fails and one of which is killed."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pyjama_instrument.cli._demo_agent import MODEL_TOOL
from pyjama_instrument.cli._terminal import complain, paint, problem, safe, say
from pyjama_instrument.config import disabled_by_environment, resolve_home
from pyjama_instrument.errors import ConfigError

if TYPE_CHECKING:
    from pyjama_instrument.document import SessionSummary
    from pyjama_instrument.reader import Reader

__all__ = ["demo"]

_POLL_SECONDS = 0.1
_KILL_AFTER_SECONDS = 2.0
_LONGEST_RUN_SECONDS = 120.0  # hang guards: the agents take a few seconds, and the store a moment to say how they ended
_LONGEST_SILENCE_SECONDS = 10.0


class _Part(NamedTuple):
    """One agent of the demo, what it does, and how its run is meant to end."""

    agent: str
    role: str
    ending: str


_CAST = (
    _Part("software-versions", "analyze", "completed"),
    _Part("software-versions", "analyze", "completed"),  # two runs of one agent at once are counted apart
    _Part("dependency-audit", "analyze", "completed"),
    _Part("nightly-report", "hurry", "failed"),  # so that others still run when it has failed
    _Part("release-notes", "hang", "crashed"),
)


@dataclass
class _Actor:
    """A part and the process that plays it."""

    part: _Part
    process: subprocess.Popen[bytes]
    log: Path
    stuck_since: float | None = None
    gone_since: float | None = None
    done: bool = False


def demo(options: argparse.Namespace) -> int:
    """Run the demo; with ``--once`` return when the agents are through: 0 if each ended as it was meant to.

    Raises:
        ConfigError: the path is not a directory, or recording is switched off.
        ViewerError: the ``viewer`` extra is missing, or the port is taken.
    """
    from pyjama_instrument.shared_metrics import clear_metrics
    from pyjama_instrument.viewer import start_dashboard

    project = _project(options.path)
    if disabled_by_environment():
        raise ConfigError("PYJAMA_DISABLED is set, so the agents would record nothing: unset it to see the demo")
    signal.signal(signal.SIGTERM, _end_tidily)
    served = start_dashboard(options.port, clear=clear_metrics)
    try:
        say(f"Dashboard: {paint(served.url, 'bold')}")
        say(f"Store: {safe(resolve_home())}")
        say(f"{len(_CAST)} agent runs over {safe(project)}; one will fail and one will be killed, on purpose:")
        well = _play(project)
        if options.once:
            return 0 if well else 1
        say(f"The dashboard stays at {served.url} until Ctrl-C. To forget the demo:  pyjama clear")
        threading.Event().wait()
    finally:
        served.stop()
    return 0


def _project(path: str | None) -> Path:
    if path is not None:
        project = Path(path).expanduser()
        if not project.is_dir():
            raise ConfigError(f"{path} is not a directory: give the demo one to analyse, or nothing")
        return project.resolve()
    package = Path(__file__).resolve().parent.parent
    return package.parent if (package.parent / "pyproject.toml").is_file() else package


def _end_tidily(*_: object) -> NoReturn:
    """SIGTERM ends the demo like Ctrl-C does: agents and temporary files go with it."""
    sys.exit(128 + signal.SIGTERM)


def _play(project: Path) -> bool:
    """Run the cast and say how each run ended; whether all ended as they were meant to."""
    from pyjama_instrument.reader import Reader

    reader = Reader()
    known = set(reader.dashboard().sessions)
    give_up = time.monotonic() + _LONGEST_RUN_SECONDS
    well = True
    with tempfile.TemporaryDirectory(prefix="pyjama-demo-") as scratch, _actors(project, Path(scratch)) as actors:
        while waiting := [actor for actor in actors if not actor.done]:
            sessions = {key: each for key, each in reader.dashboard().sessions.items() if key not in known}
            for actor in waiting:
                well &= _look_after(actor, _session_of(actor, sessions), give_up)
            time.sleep(_POLL_SECONDS)
    _say_totals(reader)
    return well


@contextlib.contextmanager
def _actors(project: Path, scratch: Path) -> Iterator[list[_Actor]]:
    """The cast's processes; those still running at the end of the block are killed."""
    actors: list[_Actor] = []
    try:
        for number, part in enumerate(_CAST):
            actors.append(_start(part, project, scratch, number))
        yield actors
    finally:
        for actor in actors:
            actor.process.kill()
            actor.process.wait()


def _start(part: _Part, project: Path, scratch: Path, number: int) -> _Actor:
    out, log = scratch / f"report-{number}", scratch / f"log-{number}"
    if part.ending == "failed":
        out.write_text("A file is in the way of the report's directory: this is how the agent comes to fail.\n")
    command = [sys.executable, "-m", "pyjama_instrument.cli._demo_agent", part.role, part.agent, str(project), str(out)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    return _Actor(part, process, log)


def _session_of(actor: _Actor, sessions: dict[str, SessionSummary]) -> SessionSummary | None:
    for session in sessions.values():
        if session.agent_id == actor.part.agent and session.pid == actor.process.pid:
            return session
    return None


def _look_after(actor: _Actor, session: SessionSummary | None, give_up: float) -> bool:
    """Kill the actor if its part says so, and say how it ended once it has; False if not as it was meant to."""
    now = time.monotonic()
    if actor.process.poll() is None:
        if now > give_up or _has_been_stuck(actor, session, now):
            actor.process.kill()
        return True
    actor.gone_since = actor.gone_since or now
    if (session is None or session.status == "running") and now - actor.gone_since < _LONGEST_SILENCE_SECONDS:
        return True  # the process is gone, and the store is about to say so
    actor.done = True
    status = session.status if session is not None else "unseen"
    say(f"  {actor.part.agent:18} {paint(status.ljust(10), status)} {safe(_story(session))}")
    if status == actor.part.ending:
        return True
    complain(f"{actor.part.agent} was to end as {actor.part.ending}: {_last_line(actor.log)}")
    return False


def _has_been_stuck(actor: _Actor, session: SessionSummary | None, now: float) -> bool:
    """Whether the actor that is to be killed has been inside its long tool call long enough to be noticed."""
    if actor.part.ending != "crashed" or session is None:
        return False
    if actor.stuck_since is None and any(call.tool == MODEL_TOOL for call in session.in_flight):
        actor.stuck_since = now
    return actor.stuck_since is not None and now - actor.stuck_since > _KILL_AFTER_SECONDS


def _story(session: SessionSummary | None) -> str:
    if session is None:
        return ""
    if session.status == "crashed":
        return f"killed in {', '.join(call.tool for call in session.interrupted) or 'no tool'}"
    if session.status == "failed" and session.error is not None:
        return problem(session.error.type, session.error.message)
    return f"{session.calls} tool calls"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def _say_totals(reader: Reader) -> None:
    overall = reader.dashboard().metrics.global_
    say(f"In the store now: {overall.count} tool calls, {overall.error} errors.")
