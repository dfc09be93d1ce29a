"""One run as the panel shows it: header, workflow, spans in reading order. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pyjama_instrument.document import SessionSummary, SessionTree, Span
from pyjama_instrument.viewer.diagram import drawing, mermaid
from pyjama_instrument.viewer.steps import step_states
from pyjama_instrument.viewer.view import MESSAGE_LIMIT, TONES, failure_text, in_flight, run_row
from pyjama_instrument.viewer.wording import clip, count, duration, json_text, label, text_of

__all__ = ["MAX_SPANS", "detail_of"]

MAX_SPANS = 1000
MAX_CALLS = 50
VALUE_LIMIT = 2000


def detail_of(tree: SessionTree, sessions: Mapping[str, SessionSummary], now: int) -> dict[str, Any]:
    """The view model of one run.

    Args:
        tree: the run and its spans.
        sessions: other runs by id, to name the parent and the children.
        now: milliseconds since the epoch; where the bars of open spans end.
    """
    run = tree.session
    states = step_states(run)
    spans = _spans(tree, now)
    more = tree.truncated + _size(tree.root) - 1 - len(spans)
    return {
        **run_row(tree.id, run, sessions),
        "now": now,
        "in_flight": [in_flight(call) for call in run.in_flight[:MAX_CALLS]],
        "in_flight_more": max(len(run.in_flight) - MAX_CALLS, 0),
        "facts": _facts(tree),
        "related": _related(tree, sessions),
        "drawing": drawing(states),
        "mermaid": mermaid(states),
        "spans": spans,
        "spans_more": f"{count(more)} more spans are not shown." if more else "",
    }


def _facts(tree: SessionTree) -> list[dict[str, str]]:
    run = tree.session
    facts = [("session", tree.id), *_named("tag", run.tags), *_named("attribute", run.attributes)]
    if run.implicit:
        facts.append(("began", "by a tool called outside any session"))
    if run.calls:
        facts.append(("time in tools", duration(run.total_duration)))
    return [{"key": f"{at} {name}", "name": name, "value": value} for at, (name, value) in enumerate(facts)]


def _named(kind: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(f"{kind} {label(name)}", text_of(value, VALUE_LIMIT)) for name, value in list(values.items())[:50]]


def _related(tree: SessionTree, sessions: Mapping[str, SessionSummary]) -> list[dict[str, str]]:
    parent = [("part of", tree.session.parent_session)] if tree.session.parent_session else []
    children = [("started", child) for child in tree.child_sessions[:MAX_CALLS]]
    return [
        {"key": f"{relation} {other}", "relation": relation, "session": other, **_name(other, sessions)}
        for relation, other in parent + children
    ]


def _name(session_id: str, sessions: Mapping[str, SessionSummary]) -> dict[str, str]:
    run = sessions.get(session_id)
    if run is None:
        return {"agent": clip(session_id, 12), "status": "", "tone": "idle"}
    return {"agent": label(run.agent_id), "status": run.status, "tone": TONES.get(run.status, "idle")}


# ── spans ───────────────────────────────────────────────────────────────────────────────────────────────


def _walk(root: Span) -> Iterator[tuple[int, Span]]:
    """Depth first, in order of start; without recursion, since a tool may call itself a thousand deep."""
    stack = [(0, root)]
    while stack:
        depth, span = stack.pop()
        yield depth, span
        stack += [(depth + 1, child) for child in sorted(span.children, key=lambda c: (-c.start_us, c.span))]


def _size(root: Span) -> int:
    return sum(1 for _ in _walk(root))


def _spans(tree: SessionTree, now: int) -> list[dict[str, Any]]:
    """The spans below the root, at most ``MAX_SPANS``, each with its place on the run's time line (0–1)."""
    begin = tree.root.start_us
    end = max([begin + 1, *(_end_us(span, tree.session, now) for _, span in _walk(tree.root))])
    rows = []
    for at, (depth, span) in enumerate(_walk(tree.root)):
        if at > MAX_SPANS:
            break
        if at:
            rows.append(_span(at, depth - 1, span, (begin, end), _end_us(span, tree.session, now)))
    return rows


def _end_us(span: Span, run: SessionSummary, now: int) -> int:
    if span.duration_ms is not None and math.isfinite(span.duration_ms):
        return span.start_us + round(span.duration_ms * 1000)
    if span.status == "running":
        return max(span.start_us, now * 1000)
    return max(span.start_us, (run.end_time or run.last_seen or 0) * 1000)


def _span(at: int, depth: int, span: Span, line: tuple[int, int], end_us: int) -> dict[str, Any]:
    begin, length = line[0], line[1] - line[0]
    left = min(max((span.start_us - begin) / length, 0.0), 1.0)
    return {
        "key": span.span or f"at {at}",
        "depth": min(depth, 24),
        "kind": span.kind,
        "name": label(span.name),
        "status": span.status,
        "tone": TONES.get(span.status, "idle"),
        "since": span.start_us // 1000 if span.status == "running" else None,
        "started": span.start_us // 1000,
        "took": duration(span.duration_ms),
        "left": round(left, 4),
        "width": round(min(max((end_us - span.start_us) / length, 0.0), 1.0 - left), 4),
        "error": _error(span),
        "note": _note(span),
    }


def _error(span: Span) -> str:
    error = span.error or {}
    return failure_text(str(error.get("type") or ""), str(error.get("message") or ""))


def _note(span: Span) -> str:
    """What else was recorded: items of a generator, captured arguments and result."""
    parts = []
    if span.items is not None:
        first = f", the first after {duration(span.first_item_ms)}" if span.first_item_ms is not None else ""
        parts.append(f"{count(span.items)} item{'' if span.items == 1 else 's'}{first}")
    arguments = list((span.arguments or {}).items())[:20]
    parts += [f"{label(name)} = {json_text(value, MESSAGE_LIMIT)}" for name, value in arguments]
    if span.result is not None:
        parts.append(f"→ {json_text(span.result, MESSAGE_LIMIT)}")
    return clip("  ".join(parts), VALUE_LIMIT)
