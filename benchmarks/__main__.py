"""``python -m benchmarks [SCENARIO…] [--quick]``: run the scenarios and write the report.

Needs nothing but Python ≥ 3.11 on Linux; what is measured is installed in environments under ``.bench``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import _machine
from benchmarks._bench import Bench
from benchmarks._environments import ENVIRONMENTS, Environments, NotInstalled
from benchmarks._report import markdown, renewed
from benchmarks._results import Result

__all__ = ["SCENARIOS", "main"]

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parent / ".bench"
_QUIET_SECONDS = 15

SCENARIOS = {
    "overhead": "overhead",
    "durability": "durability",
    "throughput": "throughput",
    "fold": "fold",
    "read": "read",
    "import": "imports",
    "fork": "forks",
    "memory": "memory",
}
"""By name: the module of this package."""


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 when the report is written."""
    options = _options(arguments)
    names = [name for name in SCENARIOS if name in (options.scenarios or SCENARIOS)]
    whole = names == list(SCENARIOS) and not options.quick
    report = options.output or (_HERE / "RESULTS.md" if whole or options.update else _CACHE / "RESULTS.md")
    _CACHE.mkdir(exist_ok=True)
    (_CACHE / ".gitignore").write_text("*\n")
    progress = _Progress()
    environments = Environments(_CACHE / "venvs", progress.say)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=_CACHE))
    try:
        results, facts = _run(names, Bench("quick" if options.quick else "full", scratch, environments, progress.say))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    progress.done()
    if not whole:
        facts["Extent"] = f"{', '.join(names)}{', small sizes (--quick): no figures to quote' if options.quick else ''}"
    text = markdown(facts, results)
    if options.update:
        text = renewed(report.read_text(), text, facts)
    report.write_text(text)
    raw = {name: {"figures": result.figures, "raw": result.raw} for name, result in results.items()}
    (_CACHE / "results.json").write_text(json.dumps(raw, indent=1))
    sys.stdout.write(text if not whole else text.partition("\n## overhead")[0])
    sys.stdout.write(f"\nWritten to {report}\n")
    return 0


def _run(names: list[str], bench: Bench) -> tuple[dict[str, Result], dict[str, str]]:
    for name in ENVIRONMENTS:
        try:
            bench.pythons.python(name)
        except NotInstalled as error:
            if name == "pyjama":
                raise SystemExit(f"{name} {error}: {_CACHE}/venvs/{name}.log says why") from None
            bench.say(f"{name} {error}")
    noise = _machine.Noise()
    results = {name: importlib.import_module(f"benchmarks.{SCENARIOS[name]}").run(bench) for name in names}
    facts = {
        "Machine": f"{_machine.description()}, {_machine.file_system(_CACHE)}",
        "Noise": str(noise),
        "Versions": _versions(bench),
        "When": time.strftime("%Y-%m-%d"),
    }
    return results, facts


def _versions(bench: Bench) -> str:
    found = {}
    for name in ENVIRONMENTS:
        try:
            found[name] = bench.pythons.packages(name)
        except NotInstalled:
            continue
    wanted = {
        "pyjama": ("pyjama-instrument", "wrapt", "filelock", "pydantic"),
        "viewer": ("starlette", "uvicorn"),
        "opentelemetry": ("opentelemetry-sdk",),
        "prometheus": ("prometheus-client",),
    }
    parts = [
        f"{package} {found[name][package]}"
        for name in found
        for package in wanted.get(name, (name,))
        if package in found[name]
    ]
    return ", ".join(parts)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what recording costs.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one or more of: {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not for figures")
    parser.add_argument("--update", action="store_true", help="put these scenarios into benchmarks/RESULTS.md")
    parser.add_argument("--output", type=Path, help="where to write the report (a full run: benchmarks/RESULTS.md)")
    options = parser.parse_args(arguments)
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if options.update and options.quick:
        parser.error("small sizes give no figures to keep")
    return options


class _Progress:
    """One line on a terminal that changes, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._topic = ""
        self._quiet_until = 0.0

    def say(self, text: str) -> None:
        """Show what is being done."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        line = f"{minutes:2}:{seconds:02}  {text}"
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{line[:110]}")
        elif (topic := text.partition(":")[0]) != self._topic or time.monotonic() > self._quiet_until:
            self._topic, self._quiet_until = topic, time.monotonic() + _QUIET_SECONDS
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def done(self) -> None:
        """Leave the line."""
        if self._terminal:
            sys.stderr.write("\n")


if __name__ == "__main__":
    sys.exit(main())
