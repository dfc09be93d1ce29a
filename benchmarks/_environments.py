"""Virtual environments of the peers: made once, under ``.bench/venvs``, each apart from the others.

What an environment holds is part of its stamp, so a change of requirements makes it anew. One that cannot be
made is remembered for the run only.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["ENVIRONMENTS", "Environments", "NotInstalled"]

_ROOT = Path(__file__).resolve().parent.parent
_INSTALL_SECONDS = 900

ENVIRONMENTS: dict[str, list[str]] = {
    "pyjama": ["--editable", str(_ROOT)],
    "viewer": ["--editable", f"{_ROOT}[viewer]"],
    "prometheus": ["prometheus_client"],
    "structlog": ["structlog"],
    "opentelemetry": ["opentelemetry-sdk"],
    "logfire": ["logfire"],
    "langfuse": ["langfuse"],
    "mlflow": ["mlflow"],
}
"""What pip is asked for. ``pyjama`` also runs the rows that need the standard library only."""

_ASK = """
import json, platform
from importlib.metadata import distributions
found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
print(json.dumps({"python": platform.python_version(), "packages": found}))
"""
_NOT_COUNTED = {"pip", "setuptools", "wheel"}


class NotInstalled(Exception):
    """An environment could not be made; the message is one line for the report."""


class Environments:
    """Finds or makes environments.

    Args:
        directory: where they are kept.
        say: is told what is being made.
    """

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say
        self._failed: dict[str, str] = {}
        self._packages: dict[str, dict[str, str]] = {}

    def python(self, name: str) -> str:
        """The interpreter of the environment ``name``.

        Raises:
            NotInstalled: it cannot be made.
        """
        if name in self._failed:
            raise NotInstalled(self._failed[name])
        home = self._directory / name
        python, stamp = home / "bin" / "python", home / ".made"
        wanted = hashlib.sha256(json.dumps([sys.version, ENVIRONMENTS[name]]).encode()).hexdigest()
        if not (stamp.exists() and stamp.read_text() == wanted):
            self._make(name, home)
            stamp.write_text(wanted)
        return str(python)

    def packages(self, name: str) -> dict[str, str]:
        """Name and version of every distribution in the environment, without pip's own.

        Raises:
            NotInstalled: it cannot be made.
        """
        if name not in self._packages:
            done = subprocess.run([self.python(name), "-c", _ASK], capture_output=True, check=True, text=True)
            found: dict[str, Any] = json.loads(done.stdout)["packages"]
            self._packages[name] = {key: found[key] for key in sorted(found) if key not in _NOT_COUNTED}
        return self._packages[name]

    def _make(self, name: str, home: Path) -> None:
        self._say(f"making the environment of {name}")
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._run(name, [sys.executable, "-m", "venv", "--clear", str(home)])
            pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            self._run(name, [*pip, *ENVIRONMENTS[name]])
        except (OSError, subprocess.SubprocessError):
            self._failed[name] = "could not be installed"
            raise NotInstalled(self._failed[name]) from None

    def _run(self, name: str, command: Sequence[str]) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True, timeout=_INSTALL_SECONDS)
