"""One agent of ``pyjama demo``, in its own process: ``python -m pyjama_instrument.cli.demo_agent``.

The agent is the example ``codebase_analyzer.py``, slowed down so that you can watch it.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyjama_instrument import agent_session, tool
from pyjama_instrument.errors import ConfigError

__all__ = ["MODEL_TOOL", "main"]

MODEL_TOOL = "ask_model"
"""The tool that does not return: the demo kills the agent in it."""

_WATCHABLE_SECONDS = {"analyze": 5.0, "hurry": 1.0}
_LONGEST_PAUSE = 0.15
_MODEL_SECONDS = 60.0


def main(argv: Sequence[str]) -> None:
    """Run one agent.

    Args:
        argv: its role (``analyze``, ``hurry`` or ``hang``), its name, a project, and a report directory.
    """
    role, agent, project, out = argv
    analyzer = _example()
    if role == "hang":
        _hang(analyzer, agent, Path(project))
    else:
        pause = _pause(analyzer, Path(project), _WATCHABLE_SECONDS[role])
        analyzer.analyze(Path(project), out=Path(out), agent=agent, imports=True, pause=pause)


def _example() -> Any:
    """The example module: beside the package in a clone, inside it if installed from a wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / "codebase_analyzer.py").is_file():
            sys.path.insert(0, str(folder))
            return importlib.import_module("codebase_analyzer")
    raise ConfigError(f"codebase_analyzer.py is missing from {package}. Install pyjama_instrument again")


def _pause(analyzer: Any, project: Path, seconds: float) -> float:
    """The pause to add to each call, so that a run takes about ``seconds`` whatever the size of the project."""
    files = sum(1 for path in analyzer.walk(project) if analyzer.is_wanted(path, imports=True))
    return min(_LONGEST_PAUSE, seconds / max(files, 1))


@tool(MODEL_TOOL)
def _ask_model(prompt: str) -> str:
    """Stands for a call that does not return."""
    time.sleep(_MODEL_SECONDS)
    return f"({len(prompt)} characters were too many)"


def _hang(analyzer: Any, agent: str, project: Path) -> None:
    with agent_session(agent, workflow=["discover", "summarize", "publish"]) as run:
        with run.step("discover"):
            files = list(analyzer.Analyzer(project, pause=_LONGEST_PAUSE / 2).list_files())
        with run.step("summarize"):
            _ask_model("\n".join(files))


if __name__ == "__main__":
    main(sys.argv[1:])
