"""The header of a run's page: its outcome, its figures, its workflow and related runs. Pure.

The result does not depend on the current time, so that it is sent again only when it has changed.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from pyjama_instrument.document import SessionSummary, SessionTree, descendants
from pyjama_instrument.viewer.diagram import mermaid, workflow_layout
from pyjama_instrument.viewer.labels import (
    UNKNOWN_END,
    clip,
    count,
    duration,
    format_count,
    join_names,
    label,
    problem_text,
    process_text,
    status_tone,
    value_text,
)
from pyjama_instrument.viewer.spans import SpanNode, walk_spans
from pyjama_instrument.viewer.steps import StepState, step_states, workflow_progress

__all__ = ["run_figures", "run_header"]

MAX_RELATED_RUNS = 50
MAX_FACTS = 50
VALUE_LIMIT = 2000
_STOPPED = "The run was stopped before it ended by itself."


def run_header(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> dict[str, Any]:
    """The view model of the header.

    Args:
        tree: the run and its spans.
        sessions: the listed runs, by id, among which are the other runs of the agent.
    """
    run = tree.session
    sessions = ChainMap(tree.relatives, sessions)  # type: ignore[arg-type]  # it is only read
    states = step_states(run)
    progress = workflow_progress(run, states)
    return {
        "session": tree.id,
        "agent": label(run.agent_id),
        "title": f"{label(run.agent_id)} · {run.status} · pyjama",
        "status": clip(run.status, 40),
        "tone": status_tone(run.status),
        "problem": _problem(tree),
        "times": _times(run),
        "tiles": run_figures(tree, sessions),
        "facts": _facts(tree),
        "step": progress.step,
        "done": progress.done,
        "fraction": None if progress.fraction is None else round(progress.fraction, 4),
        "steps": _steps_text(states),
        "diagram": workflow_layout(states),
        "mermaid": mermaid(states) if states else "",
        "related": _related_runs(tree, sessions),
        "more": f"{format_count(tree.truncated)} more spans are not shown." if tree.truncated else "",
    }


def _times(run: SessionSummary) -> list[dict[str, Any]]:
    """Start and end, each as a text to be followed by a relative time; then the duration and the process."""
    ended, took = _ended(run), _took(run)
    if run.status == "running":
        times = [("running for", run.start_time, "for")]
    else:
        ending = "last event" if run.status in UNKNOWN_END else "ended"
        times = [("started", run.start_time, "ago"), (ending, ended, "ago")]
    parts = [{"key": words, "text": words, "at": at, "mode": mode} for words, at, mode in times if at]
    texts = [f"took {took}" if took else "", process_text(run)]
    return parts + [{"key": text, "text": text, "at": None, "mode": ""} for text in texts if text]


def _ended(run: SessionSummary) -> int | None:
    return None if run.status == "running" else run.end_time or run.last_seen


def _took(run: SessionSummary) -> str:
    """How long it took; at least how long, if its end is not known."""
    ended = _ended(run)
    if ended is None or run.start_time is None:
        return ""
    return ("at least " if run.status in UNKNOWN_END else "") + duration(ended - run.start_time)


def _steps_text(states: list[StepState]) -> str:
    """The workflow as text, for screen readers."""
    return ", ".join(f"{label(step.name)}: {step.state}" for step in states[:MAX_FACTS])


# ── the problem ─────────────────────────────────────────────────────────────────────────────────────────


def _problem(tree: SessionTree) -> dict[str, Any] | None:
    """The problem of a run as a heading, a sentence and the span where it happened; None if there is none."""
    run = tree.session
    if run.status == "crashed":
        return _crash(tree)
    if run.status == "failed":
        failed = _innermost_failed(tree)
        title = f"Failed in {label(failed.span.name)}" if failed else "Failed"
        return _problem_fields(run, "bad", title, problem_text(run), failed)
    if run.status == "cancelled":
        return _problem_fields(run, "warn", "Cancelled", problem_text(run) or _STOPPED, None)
    if run.interrupted:
        crashed = _innermost_crashed(tree)
        title = f"A worker process died in {join_names([label(call.tool) for call in run.interrupted])}"
        return _problem_fields(run, "dead", title, "The run itself continues.", crashed[0] if crashed else None)
    return None


def _crash(tree: SessionTree) -> dict[str, Any]:
    run, crashed = tree.session, _innermost_crashed(tree)
    process = f"Its process ({process_text(run)})" if process_text(run) else "Its process"
    names = [label(node.span.name) for node in crashed] or [label(call.tool) for call in run.interrupted]
    if names:
        title = f"Crashed in {join_names(names)}"
        path = _path(crashed[0]) if len(crashed) == 1 else ""
        text = f"{process} died during {'this call' if len(names) == 1 else 'these calls'}{path}."
    elif run.current_step:
        title = f"Crashed in step {label(run.current_step)}"
        text = f"{process} died between two tool calls."
    else:
        title, text = "Crashed between tool calls", f"{process} died while no tool call was in progress."
    return _problem_fields(run, "dead", title, text, crashed[0] if crashed else None)


def _problem_fields(run: SessionSummary, tone: str, title: str, text: str, node: SpanNode | None) -> dict[str, Any]:
    return {
        "tone": tone,
        "title": title,
        "text": text,
        "at": _ended(run),
        "mode": "ago",
        "span": node.key if node else "",
    }


def _innermost_crashed(tree: SessionTree) -> list[SpanNode]:
    """The tool calls that a crash interrupted, without those that only waited for another of them."""
    crashed = [node for node in walk_spans(tree.root) if node.span.kind == "tool" and node.span.status == "crashed"]
    waiting = {node.parent.key for node in crashed if node.parent}
    return [node for node in crashed if node.key not in waiting]


def _innermost_failed(tree: SessionTree) -> SpanNode | None:
    """The innermost span with the error that ended the run; None if no span has it."""
    error = tree.session.error
    if error is None:
        return None
    last = None
    for node in walk_spans(tree.root):
        found = node.span.error or {}
        same = found.get("type") == error.type and found.get("message") == error.message
        if same and node.parent is not None and (last is None or node.span.start_us >= last.span.start_us):
            last = node
    return last


def _path(node: SpanNode) -> str:
    """The spans around a call, such as `` (step a › outer)``; empty for a call directly in the run."""
    names: list[str] = []
    parent = node.parent
    while parent is not None and parent.parent is not None:
        names.append(("step " if parent.span.kind == "step" else "") + label(parent.span.name))
        parent = parent.parent
    shown = names[::-1] if len(names) <= 4 else [*names[:-3:-1], "…", *names[1::-1]]
    return f" ({' › '.join(shown)})" if shown else ""


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────


def run_figures(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[dict[str, str]]:
    """Calls, errors, time in tools and numeric attributes. Each ``note`` states what child runs add to them."""
    run = tree.session
    children = [sessions[sid] for sid in descendants(tree.id, sessions)]
    child_calls = _child_note(sum(child.calls for child in children), len(children))
    child_errors = _child_note(sum(child.errors for child in children), len(children))
    tiles = [
        _tile("calls", format_count(run.calls), note=child_calls),
        _tile("errors", format_count(run.errors), "bad" if run.errors else "idle", child_errors),
        _tile("time in tools", duration(run.total_duration)),
    ]
    return tiles + [_attribute_tile(name, run, children) for name in _numeric_attributes(run, children)]


def _tile(name: str, value: str, tone: str = "idle", note: str = "") -> dict[str, str]:
    return {"key": name, "name": name, "value": value, "tone": tone, "note": note}


def _child_note(number: int, children: int) -> str:
    return f"and {format_count(number)} in {count(children, 'child run')}" if number and children else ""


def _numeric_attributes(run: SessionSummary, children: Iterable[SessionSummary]) -> list[str]:
    """The names of the attributes that can be summed up, in the order in which they were set."""
    names: dict[str, None] = {}
    for session in (run, *children):
        names |= dict.fromkeys(name for name, value in session.attributes.items() if _is_number(value))
    # An attribute that is text in this run has no sum, even if child runs have numbers of that name.
    return [name for name in names if _is_number(run.attributes.get(name, 0))][:MAX_FACTS]


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _attribute_tile(name: str, run: SessionSummary, children: list[SessionSummary]) -> dict[str, str]:
    own = [value for value in [run.attributes.get(name)] if _is_number(value)]
    others = [value for child in children if _is_number(value := child.attributes.get(name))]
    here = _format_number(own[0]) if own else "none"
    note = f"{here} here, {_format_number(_sum(others))} in {count(len(others), 'child run')}" if others else ""
    return _tile(label(name), _format_number(_sum(own + others)), note=note) | {"key": f"attribute {name}"}


def _sum(values: list[int | float]) -> int | float:
    """The sum: exact for integers, and rounded only once for others."""
    if all(isinstance(value, int) for value in values):
        return sum(values)
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def _format_number(value: int | float) -> str:
    if isinstance(value, int):
        return (
            format_count(value)
            if abs(value) < 10**15
            else clip(f"{value:.4g}" if abs(value) < 10**300 else str(value), 24)
        )
    if value == 0 or 1e-3 <= abs(value) < 1e15:
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"


def _facts(tree: SessionTree) -> list[dict[str, str]]:
    """The tags, the agent's ``spec``, and the attributes that are not numbers."""
    run = tree.session
    values = [("tag", name, value) for name, value in list(run.tags.items())[:MAX_FACTS]]
    values += [("spec", str(name), value) for name, value in list((tree.spec or {}).items())[:MAX_FACTS]]
    others = [(name, value) for name, value in run.attributes.items() if not _is_number(value)]
    values += [("attribute", name, value) for name, value in others[:MAX_FACTS]]
    facts = [(f"{kind} {label(name)}", value_text(value, VALUE_LIMIT)) for kind, name, value in values]
    if run.implicit:
        facts.append(("started by", "a tool call outside any run"))
    return [{"key": f"{at} {name}", "name": name, "value": value} for at, (name, value) in enumerate(facts)]


# ── related runs ────────────────────────────────────────────────────────────────────────────────────────


def _related_runs(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[dict[str, Any]]:
    """The parent run, the child runs, and the other runs of the agent, each as a list with a title."""
    parent = tree.session.parent_session
    groups = [
        ("Parent run", [parent] if parent else []),
        ("Child runs", tree.child_sessions),
        ("Other runs of this agent", _other_runs(tree, sessions)),
    ]
    return [_group(title, ids, sessions) for title, ids in groups if ids]


def _group(title: str, ids: list[str], sessions: Mapping[str, SessionSummary]) -> dict[str, Any]:
    if len(ids) > MAX_RELATED_RUNS:
        title = f"{title} ({MAX_RELATED_RUNS} of {format_count(len(ids))})"
    rows = [_related_run(sid, sessions.get(sid)) for sid in ids[:MAX_RELATED_RUNS]]
    return {"key": title, "title": title, "rows": rows}


def _other_runs(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[str]:
    """The other runs of the agent, newest first."""
    agent = tree.session.agent_id
    others = [sid for sid, run in sessions.items() if run.agent_id == agent and sid != tree.id]
    return sorted(others, key=lambda sid: (-(sessions[sid].start_time or 0), sid))


def _related_run(session_id: str, run: SessionSummary | None) -> dict[str, Any]:
    if run is None:
        name = clip(session_id, 12)
        return {"key": session_id, "session": session_id, "agent": name, "status": "", "tone": "idle", "started": None,
                "summary": "", "why": ""}  # fmt: skip
    return {
        "key": session_id,
        "session": session_id,
        "agent": label(run.agent_id),
        "status": clip(run.status, 40),
        "tone": status_tone(run.status),
        "started": run.start_time,
        "summary": " · ".join(filter(None, [count(run.calls, "call"), _took(run)])),
        "why": problem_text(run),
    }
