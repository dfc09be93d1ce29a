"""The dashboard data: what the reader returns and ``GET /api/data`` serves.

Kebab-case in JSON, snake_case in Python. Times are integer milliseconds since the Unix epoch, durations
float milliseconds. Unknown keys found in the store are kept, so newer writers lose nothing by being read
by this version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pyjama_instrument.presentation.html import Limits, dashboard_html, notebook, session_html

__all__ = [
    "AgentSummary",
    "Counts",
    "DashboardData",
    "Failure",
    "GlobalMetrics",
    "Health",
    "HooksInfo",
    "InFlight",
    "LastEnded",
    "LogEntry",
    "Metrics",
    "RunCounts",
    "SessionSummary",
    "SessionTree",
    "Span",
    "StepSummary",
    "ToolMetrics",
    "Workflow",
    "descendants",
]


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Kebab(BaseModel):
    model_config = ConfigDict(alias_generator=_kebab, populate_by_name=True, extra="allow")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary with kebab-case keys."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """Compact JSON text with kebab-case keys. What JSON does not know becomes null (NaN) or text."""
        return _json_of(self)


def _json_of(model: BaseModel, leave_out: str | None = None) -> str:
    exclude = None if leave_out is None else {leave_out}
    try:
        return model.model_dump_json(by_alias=True, exclude=exclude)
    except ValueError:  # recorded text need not be valid Unicode: a file name may hold any bytes
        plain = _plain(model.model_dump(by_alias=True, exclude=exclude))
        return json.dumps(plain, separators=(",", ":"), default=repr)


def _plain(value: Any) -> Any:
    """Without the floats that JSON does not know."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Failure(_Kebab):
    """The exception that ended something."""

    type: str = ""
    message: str = ""


class StepSummary(_Kebab):
    """One step of a run. ``status`` is ``running`` until it ends as ``ok``, ``error``, ``cancelled`` or ``crashed``."""

    step_id: str = ""
    status: str = "running"
    start_time: int | None = None
    end_time: int | None = None


class Workflow(_Kebab):
    """The steps a run means to take."""

    total_steps: int = 0
    steps: list[str] = Field(default_factory=list)


class InFlight(_Kebab):
    """A tool call that has begun and not ended."""

    tool: str = ""
    span: str = ""
    start_time: int = 0


class RunCounts(_Kebab):
    """How many runs an agent has had, and how they ended."""

    count: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    crashed: int = 0
    ended: int = 0


class _RunState(_Kebab):
    status: str = "running"
    start_time: int | None = None
    last_seen: int | None = None
    end_time: int | None = None
    current_step: str | None = None
    steps: list[StepSummary] = Field(default_factory=list)
    workflow: Workflow | None = None


class LastEnded(_Kebab):
    """The run of an agent that ended last."""

    session: str | None = None
    status: str = ""
    end_time: int | None = None


class AgentSummary(_RunState):
    """An agent: the state of its latest run (a running one first) and counts over all of them.

    ``session`` is that run, ``error`` and ``interrupted`` say what went wrong with it. ``last_ended`` is the run that
    ended last. Both can be looked up also when they are no longer among ``DashboardData.sessions``.
    """

    session: str | None = None
    runs: RunCounts = Field(default_factory=RunCounts)
    error: Failure | None = None
    interrupted: list[InFlight] = Field(default_factory=list)
    last_ended: LastEnded | None = None


class SessionSummary(_RunState):
    """One run. ``status``: ``running``, ``completed``, ``failed``, ``cancelled``, ``crashed`` or ``ended``.

    ``ended`` is the implicit run of a worker process that is gone, and was in no call.

    ``parent_session`` and ``parent_span`` say where it was begun, if that was in another run.
    ``in_flight`` are calls under way now; ``interrupted`` are those that a crash cut off. ``partial`` says that the
    counts are too low: more runs than are listed go on, and this one was not listed for a while.
    """

    agent_id: str = ""
    parent_session: str | None = None
    parent_span: str | None = None
    implicit: bool = False
    partial: bool = False
    writer: str | None = None
    pid: int | None = None
    host: str | None = None
    calls: int = 0
    errors: int = 0
    total_duration: float = 0.0
    in_flight: list[InFlight] = Field(default_factory=list)
    interrupted: list[InFlight] = Field(default_factory=list)
    error: Failure | None = None
    tags: dict[str, Any] = Field(default_factory=dict)
    attributes: dict[str, Any] = Field(default_factory=dict)


class Counts(_Kebab):
    """Tool executions and the time they took (``total_duration``, ms). ``count`` includes cancelled ones."""

    count: int = 0
    success: int = 0
    error: int = 0
    cancelled: int = 0
    total_duration: float = 0.0


class Rates(Counts):
    """Counts, and what follows from them. Percentiles are within 5 % of the true value; None before the first call."""

    success_rate: float | None = None
    avg_duration_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class ToolMetrics(Rates):
    """One tool over all agents. Percentiles are within 5 % of the true value; None before the first call."""

    last_error: Failure | None = None


class GlobalMetrics(Rates):
    """All tools together.

    ``throughput`` is calls per second of tool time (count ÷ total duration), ``calls_per_second`` is calls per
    second of real time over the last ten seconds.
    """

    throughput: float | None = None
    calls_per_second: float = 0.0


class Metrics(_Kebab):
    """Tool-execution figures: over all, by tool and by agent."""

    global_: GlobalMetrics = Field(default_factory=GlobalMetrics, alias="global")
    tools: dict[str, ToolMetrics] = Field(default_factory=dict)
    agents: dict[str, Rates] = Field(default_factory=dict)


class LogEntry(_Kebab):
    """One line of the activity log."""

    timestamp: int = 0
    agent_id: str = ""
    tool: str | None = None
    status: str = ""


class HooksInfo(_Kebab):
    """Hooks registered in the reading process: tool name to number of hooks."""

    registered: dict[str, int] = Field(default_factory=dict)


class Health(_Kebab):
    """What went wrong with the data themselves.

    ``torn`` damaged or half-written records skipped, ``dropped`` events by reason that could not be written,
    ``overflow`` names counted under ``__other__``, ``notes`` sentences for a person to read.
    """

    torn: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    overflow: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class DashboardData(_Kebab):
    """Everything the dashboard shows, at one moment (``timestamp``).

    ``sessions`` are the latest runs; ``runs`` counts all there have been since the last clear, listed or not.
    """

    agents: dict[str, AgentSummary] = Field(default_factory=dict)
    sessions: dict[str, SessionSummary] = Field(default_factory=dict)
    runs: RunCounts = Field(default_factory=RunCounts)
    specs: dict[str, Any] = Field(default_factory=dict)
    metrics: Metrics = Field(default_factory=Metrics)
    recent_logs: list[LogEntry] = Field(default_factory=list)
    hooks: HooksInfo = Field(default_factory=HooksInfo)
    health: Health = Field(default_factory=Health)
    timestamp: int = 0

    def _repr_html_(self) -> str:
        """How notebooks show it: agents and tools, the first twenty of each."""
        return notebook(dashboard_html(self, Limits()))


class Span(_Kebab):
    """One node of a session's tree: the session itself, a step, or a tool call.

    ``start_us`` is in microseconds since the epoch, ``duration_ms`` is None while the span is open. ``status`` is
    ``running``, ``ok``, ``error``, ``cancelled`` or ``crashed`` (a session's root has the session's own status).
    """

    kind: str = "tool"
    name: str = ""
    span: str = ""
    parent: str | None = None
    writer: str = ""
    status: str = "running"
    start_us: int = 0
    duration_ms: float | None = None
    error: dict[str, Any] | None = None
    items: int | None = None
    first_item_ms: float | None = None
    arguments: dict[str, Any] | None = None
    result: Any = None
    children: list[Span] = Field(default_factory=list)


class SessionTree(_Kebab):
    """A session's summary, the tree of its spans, and the ids of the sessions that were begun in it.

    ``relatives`` are the summaries, by id, of the session that it is part of and of those inside it at any depth,
    whether ``DashboardData.sessions`` still lists them or not. ``spec`` is what this run was given as its
    configuration. ``truncated`` counts spans left out because the session has more than the reader's limit.
    """

    id: str
    session: SessionSummary
    root: Span
    child_sessions: list[str] = Field(default_factory=list)
    relatives: dict[str, SessionSummary] = Field(default_factory=dict)
    spec: dict[str, Any] | None = None
    truncated: int = 0

    def _repr_html_(self) -> str:
        """How notebooks show it: the spans on a time line, the first two hundred of them."""
        return notebook(session_html(self, Limits()))

    # Without recursion: Pydantic gives up on trees some hundred levels deep.

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary with kebab-case keys, however deep the tree is."""
        top, root = self.model_dump(mode="json", by_alias=True, exclude={"root"}), _without_children(self.root)
        todo = [(self.root, root)]
        while todo:
            span, shown = todo.pop()
            shown["children"] = [_without_children(child) for child in span.children]
            todo += zip(span.children, shown["children"], strict=True)
        return top | {"root": root}

    def to_json(self) -> str:
        """Compact JSON text with kebab-case keys, however deep the tree is."""
        parts = [_json_of(self, "root")[:-1], ',"root":']
        todo: list[Span | str] = ["}", self.root]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                parts.append(item)
                continue
            parts += [_json_of(item, "children")[:-1], ',"children":[']
            todo.append("]}")
            for at, child in enumerate(reversed(item.children)):
                todo += [",", child] if at else [child]
        return "".join(parts)


def _without_children(span: Span) -> dict[str, Any]:
    return span.model_dump(mode="json", by_alias=True, exclude={"children"})


def descendants(session_id: str, sessions: Mapping[str, SessionSummary]) -> list[str]:
    """The ids of a run's child runs, of their child runs, and so on, among the given runs."""
    children: dict[str, list[str]] = {}
    for key, session in sessions.items():
        if session.parent_session:
            children.setdefault(session.parent_session, []).append(key)
    found: dict[str, None] = {}
    todo = [session_id]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found and child != session_id:
                found[child] = None
                todo.append(child)
    return list(found)
