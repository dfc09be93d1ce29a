"""A reader with made-up data, names that try to break out, and builders for runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    InFlight,
    SessionSummary,
    SessionTree,
    Span,
    StepSummary,
    Workflow,
)
from pyjama_instrument.errors import SessionNotFound
from pyjama_instrument.storage.history_search import FoundRecord, SearchResult

NOW = 1_706_945_875_999

HOSTILE = (
    "<img src=x onerror=document.title='owned'>",
    "</script><script>document.title='owned'</script>",
    "__proto__",
    "constructor",
    '"];--> s0["boo',
    "\u202egnp.exe\u202c tail",
    "عربي وكيل",
    "a\nb\tc\r\nd",
    "x" * 256,
    "\x00\x07bell",
    "style x:a#b;",
    "%%{init: {}}%%",
    "`code` **bold** __init__",
    "1. list",
    "../../etc/passwd",
    "%2e%2e%2f",
    "a/b?c#d&e=f",
    "👩\u200d👩\u200d👧",
)


def session_id(number: int) -> str:
    return f"{number:032x}"


def run_of(
    agent: str = "agent", status: str = "running", *, workflow: Sequence[str] = (), done: int = 0, **fields: Any
) -> SessionSummary:
    """A run that has done the first ``done`` steps of its workflow and is, or was, in the next."""
    steps = [
        StepSummary(step_id=name, status="ok", start_time=NOW - 900, end_time=NOW - 800) for name in workflow[:done]
    ]
    current = workflow[done] if done < len(workflow) and status != "completed" else None
    if current is not None:
        in_it = {"failed": "error"}.get(status, status)
        steps.append(StepSummary(step_id=current, status=in_it, start_time=NOW - 500))
    values: dict[str, Any] = {
        "agent_id": agent,
        "status": status,
        "start_time": NOW - 60_000,
        "last_seen": NOW - 10,
        "end_time": None if status == "running" else NOW - 10,
        "current_step": current,
        "steps": steps,
        "workflow": Workflow(total_steps=len(workflow), steps=list(workflow)) if workflow else None,
    }
    return SessionSummary(**(values | fields))


def call_of(tool: str, began: int = NOW - 5_000, span: str = "") -> InFlight:
    return InFlight(tool=tool, span=span or f"{abs(hash(tool)):016x}"[:16], start_time=began)


def data_of(*runs: SessionSummary, **fields: Any) -> DashboardData:
    """Dashboard data of these runs, numbered from 0, with their agents."""
    data = DashboardData(timestamp=NOW, **fields)
    for number, run in enumerate(runs):
        data.sessions[session_id(number)] = run
        agent = data.agents.setdefault(run.agent_id, AgentSummary(session=session_id(number)))
        for field in ("status", "start_time", "last_seen", "end_time", "current_step", "steps", "workflow"):
            setattr(agent, field, getattr(run, field))
        for runs in (agent.runs, data.runs):
            runs.count += 1
            setattr(runs, run.status, getattr(runs, run.status) + 1)
    return data


def tree_of(number: int, run: SessionSummary, *children: Span) -> SessionTree:
    start = (run.start_time or 0) * 1000
    root = Span(
        kind="session", name=run.agent_id, span="root", status=run.status, start_us=start, children=list(children)
    )
    return SessionTree(id=session_id(number), session=run, root=root)


def apply_patch(view: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """The view after a message of the stream, as the page puts it together."""
    if "patch" not in message:
        return message
    patch = message["patch"]
    after = view | patch["set"] | {"now": message["now"]}
    for name, change in patch["rows"].items():
        rows = {row["key"]: row for row in view[name]}
        for key, fields in change["set"]:
            rows[key] = rows.get(key, {}) | fields
        after[name] = [rows[key] for key in change.get("order", [row["key"] for row in view[name]])]
    return after


class FakeReader:
    """Returns ``data``, which a test may replace while the dashboard runs; raises ``error`` while it is set."""

    def __init__(self, data: DashboardData | None = None) -> None:
        self.data = data or DashboardData(timestamp=NOW)
        self.error: Exception | None = None
        self.polls = 0
        self.records: list[dict[str, Any]] = []  # oldest first
        self.buckets: dict[int, int] = {}
        self.is_idle = False  # says that nothing has happened, whatever has
        self._revision = 0

    def revision(self) -> int:
        self._revision += not self.is_idle
        return self._revision

    def dashboard(self) -> DashboardData:
        self.polls += 1
        if self.error is not None:
            raise self.error
        return self.data

    def session(self, session_id: str, /) -> SessionTree:
        if self.error is not None:
            raise self.error
        try:
            run = self.data.sessions[session_id]
        except KeyError:
            raise SessionNotFound(session_id) from None
        return tree_of(int(session_id, 16), run)

    def latency(self, tool: str, /) -> dict[int, int]:
        return self.buckets

    def look_back(
        self,
        wanted: Callable[[dict[str, Any]], bool],
        /,
        *,
        before: tuple[int, str] | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> SearchResult:
        places = [FoundRecord(record["ts"], f"w-1:{at:06}", record) for at, record in enumerate(self.records)]
        found = [
            each
            for each in reversed(places)
            if wanted(each.record) and (before is None or each[:2] < before) and (after is None or each.ts >= after)
        ]
        return SearchResult(found[:limit], found[limit - 1][:2] if len(found) > limit else None)
