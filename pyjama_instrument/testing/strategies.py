"""Hypothesis strategies for events; see ``testing.events``."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pyjama_instrument import events as ev

__all__ = ["any_event"]

_hex16 = st.integers(1, 2**64 - 1).map("{:016x}".format)
_hex32 = st.integers(1, 2**128 - 1).map("{:032x}".format)
_name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_ts = st.integers(0, 2**53 // 1000)
_ns = st.integers(0, 2**50)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _name,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_name, inner, max_size=3),
    max_leaves=5,
)
_object = st.dictionaries(_name, _json, max_size=3)
_error = st.builds(
    ev.ErrorInfo, type=_name, message=_name, traceback=st.none() | st.lists(_name, max_size=2).map(tuple)
)
_tool_status = st.sampled_from(["ok", "error", "cancelled"])


def any_event() -> st.SearchStrategy[Any]:
    """Every kind of event, with all fields generated."""
    session = {"ts": _ts, "agent": _name, "session": _hex32}
    span = session | {"parent": _hex16, "span": _hex16}
    ended = span | {"duration_ns": _ns, "status": _tool_status, "error": st.none() | _error}
    count, optional_ns = st.integers(0, 2**31), st.none() | _ns
    return st.one_of(
        st.builds(
            ev.WriterOpened, ts=_ts, schema_version=st.just(1), writer=_hex16, segment=st.integers(1, 9),
            pid=count, host=_name, python=_name, argv=st.lists(_name, max_size=2).map(tuple), started=_ts,
        ),
        st.builds(ev.WriterDropped, ts=_ts, count=count, reason=_name),
        st.builds(
            ev.SessionStarted, **session, span=_hex16, parent_session=st.none() | _hex32, parent=st.none() | _hex16,
            implicit=st.none() | st.just(True), worker=st.none() | st.just(True), spec=st.none() | _object,
            tags=st.none() | _object,
        ),
        st.builds(
            ev.SessionEnded, **session, span=_hex16, duration_ns=_ns, error=st.none() | _error,
            status=st.sampled_from(["completed", "failed", "cancelled"]),
        ),
        st.builds(ev.WorkflowDeclared, **session, steps=st.lists(_name, max_size=4).map(tuple)),
        st.builds(ev.StepStarted, **span, step=_name),
        st.builds(ev.StepEnded, **ended, step=_name),
        st.builds(ev.ToolStarted, **span, tool=_name),
        st.builds(
            ev.ToolEnded, **ended, tool=_name, items=st.none() | count, first_item_ns=optional_ns,
            arguments=st.none() | _object, result=_json,
        ),
        st.builds(ev.Activity, **session, status=_name, tool=st.none() | _name),
        st.builds(ev.Annotation, **session, span=_hex16, attributes=_object),
    )  # fmt: skip
