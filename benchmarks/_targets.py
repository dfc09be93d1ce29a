"""What must hold, compared with what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks._results import Table

__all__ = ["TARGETS", "Target", "table"]


class Target(NamedTuple):
    """One promise: the figure of that name is at most (or at least) the limit."""

    text: str
    figure: str
    limit: float
    at_least: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is within the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = [
    Target("sync call in a session, over bare ÷ the floor", "sync over floor", 1.6),
    Target("the same ÷ prometheus_client, multiprocess, histogram and counter", "sync over prometheus", 0.82),
    Target("the same ÷ OpenTelemetry, batch, no-op exporter", "sync over otel-noop", 1 / 6),
    Target("the same ÷ OpenTelemetry, simple, to a file", "sync over otel-simple", 1 / 15),
    Target("async call ÷ sync call, over bare", "async over sync", 1.3),
    Target("disabled ÷ a no-op wrapt wrapper, over bare", "disabled over no-op", 1.2),
    Target("calls lost or counted twice, of 1,000 before SIGKILL", "lost calls", 0),
    Target("p99 of a call beside a fold of 50,000 events ÷ median alone", "beside a fold: p99 over median", 10),
    Target("calls/s of 8 processes ÷ of 2", "throughput of 8 over 2", 0.9, at_least=True),
    Target("calls/s of 64 processes ÷ of 2", "throughput of 64 over 2", 0.8, at_least=True),
    Target("4 × 10,000 calls/s for 60 s: calls not counted", "steady: calls not counted", 0),
    Target("the same: the snapshot is behind by at most", "steady: fold behind, s", 1.0, unit="s"),
    Target("the same: a page is behind by at most", "steady: page behind, s", 1.0, unit="s"),
    Target("worst of 1,000,000 calls ÷ prometheus_client's worst", "worst over prometheus", 2.0),
    Target("events folded a second, one core", "fold: events per second", 100_000, at_least=True),
    Target("one fold, 1,000 tools and 500 sessions", "fold: one, ms", 60, unit="ms"),
    Target("flusher threads of 20 processes × 100 calls/s, of one core", "flusher CPU", 0.03),
    Target("reader's steady poll, 1,000 live and 10,000 retired journals", "read: steady poll, ms", 30, unit="ms"),
    Target("reader's first answer, the same store", "read: first page, s", 1.0, unit="s"),
    Target("recorded → seen by a reader, p99", "seen by follow: p99, ms", 300, unit="ms"),
    Target("recorded → seen by a client of the dashboard's stream, p99", "seen by stream: p99, ms", 600, unit="ms"),
    Target("import − (wrapt + filelock + pydantic)", "import over three, ms", 20, unit="ms"),
    Target("import − wrapt", "import over wrapt, ms", 25, unit="ms"),
    Target("fork of a process that records − of one that does not", "fork over bare, ms", 1.0, unit="ms"),
    Target("memory after 1,000,000 calls − after 10,000", "memory: grown, MiB", 2, unit="MiB"),
]


def table(figures: Mapping[str, float]) -> Table:
    """Every target with its figure; one that was not measured says so."""
    shown = Table("Targets", ["figure", "target", "measured", "met"])
    for target in TARGETS:
        value = figures.get(target.figure)
        limit = f"{'≥' if target.at_least else '≤'} {_text(target.limit, target.unit)}"
        measured = "not measured" if value is None else _text(value, target.unit)
        verdict = "" if value is None else "yes" if target.holds(value) else "**no**"
        shown.rows.append([target.text, limit, measured, verdict])
    return shown


def _text(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()
