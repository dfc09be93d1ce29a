"""The head of a session's page: what became of it, its figures, its workflow and its relatives. Pure.

Nothing in it depends on the time at which it is asked for: a page is sent it again only when it has changed.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from pyjama_instrument.document import SessionSummary, SessionTree
from pyjama_instrument.viewer.diagram import drawing, mermaid
from pyjama_instrument.viewer.spans import Node, walk
from pyjama_instrument.viewer.steps import StepState, progress_of, step_states
from pyjama_instrument.viewer.view import TONES, reason
from pyjama_instrument.viewer.wording import clip, count, duration, label, listing, text_of

__all__ = ["figures_of", "head_of"]

MAX_RELATIVES = 50
MAX_FACTS = 50
VALUE_LIMIT = 2000
_ENDED_BY_A_PERSON = "It was stopped before it was done."


def head_of(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> dict[str, Any]:
    """The view model of the head.

    Args:
        tree: the session and its spans.
        sessions: the sessions that are listed, by id, to name the other runs of the agent.
    """
    run = tree.session
    sessions = ChainMap(tree.relatives, sessions)  # type: ignore[arg-type]  # it is only read
    states = step_states(run)
    progress = progress_of(run, states)
    return {
        "session": tree.id,
        "agent": label(run.agent_id),
        "title": f"{label(run.agent_id)} · {run.status} · pyjama",
        "status": clip(run.status, 40),
        "tone": TONES.get(run.status, "idle"),
        "verdict": _verdict(tree),
        "times": _times(run),
        "tiles": figures_of(tree, sessions),
        "facts": _facts(tree),
        "step": progress.step,
        "done": progress.done,
        "fraction": None if progress.fraction is None else round(progress.fraction, 4),
        "steps": _steps_text(states),
        "drawing": drawing(states),
        "mermaid": mermaid(states) if states else "",
        "kin": _kin(tree, sessions),
        "more": f"{count(tree.truncated)} more spans are not shown." if tree.truncated else "",
    }


def _process(run: SessionSummary) -> str:
    parts = [f"pid {run.pid}" if run.pid else "", f"on {clip(run.host, 60)}" if run.host else ""]
    return " ".join(part for part in parts if part)


def _times(run: SessionSummary) -> list[dict[str, Any]]:
    """When it began and ended, as words before a moment, and which process it ran in."""
    ended, took = _ended(run), _took(run)
    if run.status == "running":
        times = [("running for", run.start_time, "for")]
    else:
        ending = "last sign of life" if run.status in ("crashed", "ended") else "ended"
        times = [("began", run.start_time, "ago"), (ending, ended, "ago")]
    parts = [{"key": words, "text": words, "at": at, "mode": mode} for words, at, mode in times if at]
    told = [f"took {took}" if took else "", _process(run)]
    return parts + [{"key": words, "text": words, "at": None, "mode": ""} for words in told if words]


def _ended(run: SessionSummary) -> int | None:
    return None if run.status == "running" else run.end_time or run.last_seen


def _took(run: SessionSummary) -> str:
    """How long it took. Nobody knows when a killed process died."""
    ended = _ended(run)
    if ended is None or run.start_time is None:
        return ""
    return ("at least " if run.status in ("crashed", "ended") else "") + duration(ended - run.start_time)


def _steps_text(states: list[StepState]) -> str:
    """The workflow for those who do not see the drawing."""
    return ", ".join(f"{label(step.name)}: {step.state}" for step in states[:MAX_FACTS])


# ── what went wrong ─────────────────────────────────────────────────────────────────────────────────────


def _verdict(tree: SessionTree) -> dict[str, Any] | None:
    """What went wrong and where, in a heading and a sentence, with the row to look at; None if nothing did."""
    run = tree.session
    if run.status == "crashed":
        return _crash(tree)
    if run.status == "failed":
        culprit = _last_failure(tree)
        where = f"Failed in {label(culprit.span.name)}" if culprit else "Failed"
        return _said(run, "bad", where, reason(run), culprit)
    if run.status == "cancelled":
        return _said(run, "warn", "Cancelled", reason(run) or _ENDED_BY_A_PERSON, None)
    if run.interrupted:
        lost = _innermost_crashed(tree)
        names = listing([label(call.tool) for call in run.interrupted])
        return _said(
            run, "dead", f"A worker process died in {names}", "The session itself goes on.", lost[0] if lost else None
        )
    return None


def _crash(tree: SessionTree) -> dict[str, Any]:
    run, lost = tree.session, _innermost_crashed(tree)
    process = f"Its process ({_process(run)})" if _process(run) else "Its process"
    names = [label(node.span.name) for node in lost] or [label(call.tool) for call in run.interrupted]
    if names:
        where = f"Crashed in {listing(names)}"
        path = _path(lost[0]) if len(lost) == 1 else ""
        text = f"{process} died during {'this call' if len(names) == 1 else 'these calls'}{path}."
    elif run.current_step:
        where = f"Crashed in step {label(run.current_step)}"
        text = f"{process} died between two tool calls."
    else:
        where, text = "Crashed between tool calls", f"{process} died while no tool call was under way."
    return _said(run, "dead", where, text, lost[0] if lost else None)


def _said(run: SessionSummary, tone: str, title: str, text: str, node: Node | None) -> dict[str, Any]:
    return {
        "tone": tone,
        "title": title,
        "text": text,
        "at": _ended(run),
        "mode": "ago",
        "span": node.key if node else "",
    }


def _innermost_crashed(tree: SessionTree) -> list[Node]:
    """The tool calls that a crash cut off, without those that only waited for another of them."""
    crashed = [node for node in walk(tree.root) if node.span.kind == "tool" and node.span.status == "crashed"]
    waiting = {node.above.key for node in crashed if node.above}
    return [node for node in crashed if node.key not in waiting]


def _last_failure(tree: SessionTree) -> Node | None:
    """The innermost span with the error that the session ended with; None if it was raised in no span."""
    error = tree.session.error
    if error is None:
        return None
    last = None
    for node in walk(tree.root):
        found = node.span.error or {}
        same = found.get("type") == error.type and found.get("message") == error.message
        if same and node.above is not None and (last is None or node.span.start_us >= last.span.start_us):
            last = node
    return last


def _path(node: Node) -> str:
    """`` (step a › outer)``: where a call was made; empty for one made directly in the session."""
    names: list[str] = []
    above = node.above
    while above is not None and above.above is not None:
        names.append(("step " if above.span.kind == "step" else "") + label(above.span.name))
        above = above.above
    shown = names[::-1] if len(names) <= 4 else [*names[:-3:-1], "…", *names[1::-1]]
    return f" ({' › '.join(shown)})" if shown else ""


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────


def figures_of(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[dict[str, str]]:
    """Calls, errors, time and the numbers it was annotated with; what the runs inside it add is in each ``note``."""
    run = tree.session
    inside = [sessions[sid] for sid in _descendants(tree.id, sessions)]
    tiles = [
        _tile("calls", count(run.calls), note=_beside(sum(child.calls for child in inside), len(inside))),
        _tile("errors", count(run.errors), "bad" if run.errors else "idle",
              _beside(sum(child.errors for child in inside), len(inside))),
        _tile("time in tools", duration(run.total_duration)),
    ]  # fmt: skip
    return tiles + [_sum(name, run, inside) for name in _numeric(run, inside)]


def _tile(name: str, value: str, tone: str = "idle", note: str = "") -> dict[str, str]:
    return {"key": name, "name": name, "value": value, "tone": tone, "note": note}


def _beside(number: int, sessions: int) -> str:
    return f"and {count(number)} in {_runs_inside(sessions)}" if number and sessions else ""


def _runs_inside(number: int) -> str:
    return f"{count(number)} run{'' if number == 1 else 's'} inside"


def _descendants(session_id: str, sessions: Mapping[str, SessionSummary]) -> list[str]:
    """The sessions inside this one, and those inside them."""
    inside: dict[str, list[str]] = {}
    for sid, session in sessions.items():
        if session.parent_session:
            inside.setdefault(session.parent_session, []).append(sid)
    found: dict[str, None] = {}
    todo = [session_id]
    while todo:
        for child in inside.get(todo.pop(), []):
            if child not in found and child != session_id:
                found[child] = None
                todo.append(child)
    return list(found)


def _numeric(run: SessionSummary, inside: Iterable[SessionSummary]) -> list[str]:
    """The names of the attributes that can be added up, in the order in which they were set."""
    names: dict[str, None] = {}
    for session in (run, *inside):
        names |= dict.fromkeys(name for name, value in session.attributes.items() if _is_number(value))
    # A name that stands for a text in this session is none to be added up.
    return [name for name in names if _is_number(run.attributes.get(name, 0))][:MAX_FACTS]


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _sum(name: str, run: SessionSummary, inside: list[SessionSummary]) -> dict[str, str]:
    own = [value for value in [run.attributes.get(name)] if _is_number(value)]
    others = [value for child in inside if _is_number(value := child.attributes.get(name))]
    total = _total(own + others)
    here = _number(own[0]) if own else "none"
    note = f"{here} here, {_number(_total(others))} in {_runs_inside(len(others))}" if others else ""
    return _tile(label(name), _number(total), note=note) | {"key": f"attribute {name}"}


def _total(values: list[int | float]) -> int | float:
    """The sum: exact for integers, not rounded at each step for others."""
    if all(isinstance(value, int) for value in values):
        return sum(values)
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def _number(value: int | float) -> str:
    if isinstance(value, int):
        return count(value) if abs(value) < 10**15 else clip(f"{value:.4g}" if abs(value) < 10**300 else str(value), 24)
    if value == 0 or 1e-3 <= abs(value) < 1e15:
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"


def _facts(tree: SessionTree) -> list[dict[str, str]]:
    """Tags, what the agent was given as its ``spec``, and the attributes that are no numbers."""
    run = tree.session
    told = [("tag", name, value) for name, value in list(run.tags.items())[:MAX_FACTS]]
    told += [("spec", str(name), value) for name, value in list((tree.spec or {}).items())[:MAX_FACTS]]
    texts = [(name, value) for name, value in run.attributes.items() if not _is_number(value)]
    told += [("attribute", name, value) for name, value in texts[:MAX_FACTS]]
    facts = [(f"{kind} {label(name)}", text_of(value, VALUE_LIMIT)) for kind, name, value in told]
    if run.implicit:
        facts.append(("began", "by a tool called outside any session"))
    return [{"key": f"{at} {name}", "name": name, "value": value} for at, (name, value) in enumerate(facts)]


# ── relatives ───────────────────────────────────────────────────────────────────────────────────────────


def _kin(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[dict[str, Any]]:
    """The session this one is part of, those inside it, and the agent's others."""
    parent = tree.session.parent_session
    kin = [
        ("Part of", [parent] if parent else []),
        ("Runs inside", tree.child_sessions),
        ("Other runs of this agent", _siblings(tree, sessions)),
    ]
    return [
        {
            "key": shown,
            "title": shown,
            "rows": [_relative(sid, sessions.get(sid)) for sid in ids[:MAX_RELATIVES]],
        }
        for title, ids in kin
        if ids
        for shown in [title if len(ids) <= MAX_RELATIVES else f"{title} ({MAX_RELATIVES} of {count(len(ids))})"]
    ]


def _siblings(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[str]:
    """The other sessions of the agent, the newest first."""
    agent = tree.session.agent_id
    others = [sid for sid, run in sessions.items() if run.agent_id == agent and sid != tree.id]
    return sorted(others, key=lambda sid: (-(sessions[sid].start_time or 0), sid))


def _relative(session_id: str, run: SessionSummary | None) -> dict[str, Any]:
    if run is None:
        shown = clip(session_id, 12)
        return {"key": session_id, "session": session_id, "agent": shown, "status": "", "tone": "idle", "started": None,
                "sums": "", "why": ""}  # fmt: skip
    return {
        "key": session_id,
        "session": session_id,
        "agent": label(run.agent_id),
        "status": clip(run.status, 40),
        "tone": TONES.get(run.status, "idle"),
        "started": run.start_time,
        "sums": " · ".join(filter(None, [f"{count(run.calls)} call{'' if run.calls == 1 else 's'}", _took(run)])),
        "why": reason(run),
    }
