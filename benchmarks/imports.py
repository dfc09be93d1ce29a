"""Import: the time it takes, the interpreter's own start subtracted, and the number of distributions it needs."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from typing import NamedTuple

from benchmarks._bench import Bench
from benchmarks._environments import NotInstalled
from benchmarks._figures import amount, median, ns, spread
from benchmarks._results import Result, Table

__all__ = ["run"]


class _Cost(NamedTuple):
    wall: float
    cpu: float


class _Subject(NamedTuple):
    label: str
    environment: str
    statement: str


_SUBJECTS = {
    "ours": _Subject("`import pyjama_instrument`", "pyjama", "import pyjama_instrument"),
    "wrapt": _Subject("`import wrapt`", "pyjama", "import wrapt"),
    "three": _Subject("`import wrapt, filelock, pydantic`", "pyjama", "import wrapt, filelock, pydantic"),
    "folding": _Subject(
        "ours, with what the first fold loads", "pyjama",
        "import pyjama_instrument, pyjama_instrument.storage.compaction",
    ),
    "reader": _Subject("ours, with the reader", "pyjama", "import pyjama_instrument.reader"),
    "viewer": _Subject("ours, with the viewer", "viewer", "import pyjama_instrument.viewer.server"),
    "logging": _Subject("`import logging`", "pyjama", "import logging"),
    "prometheus": _Subject("`import prometheus_client`", "prometheus", "import prometheus_client"),
    "structlog": _Subject("`import structlog`", "structlog", "import structlog"),
    "opentelemetry": _Subject(
        "OpenTelemetry's API and SDK", "opentelemetry",
        "import opentelemetry.trace, opentelemetry.sdk.trace, opentelemetry.sdk.trace.export",
    ),
    "logfire": _Subject("`import logfire`", "logfire", "import logfire"),
    "langfuse": _Subject("`import langfuse`", "langfuse", "import langfuse"),
    "mlflow": _Subject("`import mlflow`", "mlflow", "import mlflow"),
}  # fmt: skip


def run(bench: Bench) -> Result:
    """Turns of everybody, each beside an interpreter that imports nothing."""
    turns = bench.size(11, 3, 1)
    keys = bench.size(list(_SUBJECTS), list(_SUBJECTS), ["ours", "wrapt", "three", "mlflow"])
    took: dict[str, list[_Cost]] = defaultdict(list)
    failed: dict[str, str] = {}
    for turn in range(-1, turns):  # the first one warms the caches and does not count
        for key in (key for key in keys if key not in failed):
            bench.say(f"import: turn {turn + 1} of {turns}: {key}")
            subject = _SUBJECTS[key]
            try:
                python = bench.pythons.python(subject.environment)
            except NotInstalled as error:
                failed[key] = str(error)
                continue
            nothing, something = _start(python, "pass"), _start(python, subject.statement)
            if turn >= 0:
                took[key].append(_Cost(something.wall - nothing.wall, something.cpu - nothing.cpu))
    return _report(bench, dict(took), failed)


def _report(bench: Bench, took: dict[str, list[_Cost]], failed: dict[str, str]) -> Result:
    table = Table(
        "Import, the interpreter's start subtracted",
        ["", "median", "± half the quartiles", "CPU, median", "distributions in its environment"],
        notes=["The distributions are those of the environment that the import runs in, pip not counted."],
    )
    for key, costs in took.items():
        subject = _SUBJECTS[key]
        own = key not in ("wrapt", "three", "folding", "reader", "logging")
        packages = amount(len(bench.pythons.packages(subject.environment))) if own else ""
        wall = [cost.wall for cost in costs]
        middle = [ns(median(wall)), f"{spread(wall) * 100:.0f} %", ns(median(cost.cpu for cost in costs))]
        table.rows.append([subject.label, *middle, packages])
    table.rows += [[_SUBJECTS[key].label, why, "", "", ""] for key, why in failed.items()]
    figures = {
        f"import over {base}, ms": median(a.wall - b.wall for a, b in zip(took["ours"], took[base], strict=True)) / 1e6
        for base in ("three", "wrapt")
        if {"ours", base} <= took.keys()
    }
    return Result([table], figures, {"ns": {key: median(cost.wall for cost in costs) for key, costs in took.items()}})


def _start(python: str, statement: str) -> _Cost:
    began = time.perf_counter_ns()
    child = subprocess.Popen([python, "-c", statement], stdout=subprocess.DEVNULL, env={"HOME": "/nonexistent"})
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter_ns() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, statement)
    return _Cost(wall, (usage.ru_utime + usage.ru_stime) * 1e9)
