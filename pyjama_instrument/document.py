"""The dashboard data: what the reader returns and ``GET /api/data`` serves.

Keys are kebab-case in JSON and snake_case in Python. Times are integer milliseconds since the Unix epoch, durations are
float milliseconds. Unknown keys of a store that a newer version has written are kept.
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
        """Compact JSON text with kebab-case keys. NaN and infinity become null, other values that JSON lacks text."""
        return _json_of(self)


def _json_of(model: BaseModel, leave_out: str | None = None) -> str:
    exclude = None if leave_out is None else {leave_out}
    try:
        return model.model_dump_json(by_alias=True, exclude=exclude)
    except ValueError:  # recorded text may be invalid Unicode, because a file name may hold any bytes
        plain = _plain(model.model_dump(by_alias=True, exclude=exclude))
        return json.dumps(plain, separators=(",", ":"), default=repr)


def _plain(value: Any) -> Any:
    """The value with null in the place of NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Failure(_Kebab):
    """The exception that ended a run, a step or a call."""

    type: str = ""
    message: str = ""


class StepSummary(_Kebab):
    """One step of a run. ``status`` is ``running`` until it ends as ``ok``, ``error``, ``cancelled`` or ``crashed``."""

    step_id: str = ""
    status: str = "running"
    start_time: int | None = None
    end_time: int | None = None


class Workflow(_Kebab):
    """The steps that a run plans."""

    total_steps: int = 0
    steps: list[str] = Field(default_factory=list)


class InFlight(_Kebab):
    """A tool call that has begun and has not ended."""

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
    """The agent's run that ended last."""

    session: str | None = None
    status: str = ""
    end_time: int | None = None


class AgentSummary(_RunState):
    """An agent: the state of its latest run (of its latest running one, if one runs), and counts over all runs.

    ``session`` is the id of that run, ``error`` and ``interrupted`` are its problems. ``last_ended`` is the run that
    ended last. You can look up both by their ids even if ``DashboardData.sessions`` no longer has them.
    """

    session: str | None = None
    runs: RunCounts = Field(default_factory=RunCounts)
    error: Failure | None = None
    interrupted: list[InFlight] = Field(default_factory=list)
    last_ended: LastEnded | None = None


class SessionSummary(_RunState):
    """One run. ``status`` is ``running``, ``completed``, ``failed``, ``cancelled``, ``crashed`` or ``ended``.

    ``ended`` is the status of an implicit run whose worker process is gone and was in no call.

    ``parent_session`` and ``parent_span`` are the run and the span in which it was started, if there is one.
    ``in_flight`` are calls under way now; ``interrupted`` are calls that a crash cut off. If ``partial`` is true, the
    counts are too low: more runs are open than the store lists, and this run was not listed for some time.
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
    """Counts and rates. Percentiles are within 5 % of the true value, and None before the first call."""

    success_rate: float | None = None
    avg_duration_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class ToolMetrics(Rates):
    """One tool, over all agents. Percentiles are within 5 % of the true value, and None before the first call."""

    last_error: Failure | None = None


class GlobalMetrics(Rates):
    """All tools together.

    ``throughput`` is calls per second of tool time (count ÷ total duration), ``calls_per_second`` is calls per
    second of real time over the last ten seconds.
    """

    throughput: float | None = None
    calls_per_second: float = 0.0


class Metrics(_Kebab):
    """Counts and rates of tool calls: overall, by tool and by agent."""

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
    """Problems with the recorded data.

    ``torn``: the number of damaged or incomplete records that were skipped. ``dropped``: the number of events that
    could not be written, by reason. ``overflow``: the number of names counted under ``__other__``. ``notes``: sentences
    for a person to read.
    """

    torn: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    overflow: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class DashboardData(_Kebab):
    """Everything the dashboard shows, at one moment (``timestamp``).

    ``sessions`` are the latest runs. ``runs`` counts all runs since the last clear, listed or not.
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
        """The HTML that notebooks show: the first twenty agents and tools."""
        return notebook(dashboard_html(self, Limits()))


class Span(_Kebab):
    """One node of a run's tree: the run itself, a step, or a tool call.

    ``start_us`` is in microseconds since the epoch. ``duration_ms`` is None while the span is open. ``status`` is
    ``running``, ``ok``, ``error``, ``cancelled`` or ``crashed``. The root has the status of the run.
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
    """A run's summary, the tree of its spans, and the ids of its child runs.

    ``relatives`` are the summaries, by id, of the parent run and of all descendants, whether ``DashboardData.sessions``
    still lists them or not. ``spec`` is the agent's configuration in this run. ``truncated`` is the number of spans
    left out because the run has more than the reader's limit.
    """

    id: str
    session: SessionSummary
    root: Span
    child_sessions: list[str] = Field(default_factory=list)
    relatives: dict[str, SessionSummary] = Field(default_factory=dict)
    spec: dict[str, Any] | None = None
    truncated: int = 0

    def _repr_html_(self) -> str:
        """The HTML that notebooks show: the first two hundred spans on a time line."""
        return notebook(session_html(self, Limits()))

    # Without recursion, because Pydantic fails on trees that are some hundred levels deep.

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
