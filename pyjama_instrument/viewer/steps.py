"""The state of each step of a run's workflow, and the run's progress. Pure.

A step is ``pending`` (declared, not started), ``skipped`` (not started by a run that has ended), ``running``, ``done``,
``error``, ``cancelled`` or ``crashed``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from pyjama_instrument.document import AgentSummary, SessionSummary, StepSummary
from pyjama_instrument.viewer.labels import label

__all__ = ["Progress", "StepState", "step_states", "workflow_progress"]

_STATE_OF_OPEN_STEP = {
    "completed": "done",
    "failed": "error",
    "cancelled": "cancelled",
    "crashed": "crashed",
    "ended": "cancelled",
}
_STATES = {"ok": "done", "completed": "done", "success": "done"} | {
    state: state for state in ("running", "error", "cancelled", "crashed")
}


@dataclass(frozen=True, slots=True)
class StepState:
    """A step of a workflow: its name, its state, whether it was declared, and how often it was started."""

    name: str
    state: str
    declared: bool = True
    times: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's progress: its current step, and how many of the declared steps are done.

    ``done`` is text such as ``1/5``, and ``fraction`` the same from 0 to 1. Without a declared workflow they are empty
    and None.
    """

    step: str
    done: str
    fraction: float | None


def step_states(run: SessionSummary | AgentSummary) -> list[StepState]:
    """The declared steps in their order, then the others in the order in which they started.

    A step declared once and started several times has its latest state. If a name is declared several times, each
    declaration takes the next start of that name.
    """
    declared = list(run.workflow.steps) if run.workflow else []
    begun: defaultdict[str, deque[StepSummary]] = defaultdict(deque)
    for step in run.steps:
        begun[step.step_id].append(step)
    left = defaultdict(int, {name: declared.count(name) for name in set(declared)})
    states = []
    for name in declared:
        left[name] -= 1
        states.append(_declared(name, begun[name], is_last=left[name] == 0, run_status=run.status))
    others = {step.step_id: begun[step.step_id] for step in run.steps if begun[step.step_id]}
    states += [StepState(name, _state(runs[-1], run.status), False, len(runs)) for name, runs in others.items()]
    return states


def _declared(name: str, begun: deque[StepSummary], *, is_last: bool, run_status: str) -> StepState:
    if not begun:
        return StepState(name, "pending" if run_status == "running" else "skipped")
    taken = [begun.popleft() for _ in range(len(begun) if is_last else 1)]
    return StepState(name, _state(taken[-1], run_status), times=len(taken))


def _state(step: StepSummary, run_status: str) -> str:
    state = _STATES.get(step.status, "done" if step.end_time is not None else "running")
    # A step that is still open when its run has ended takes its state from the run's status.
    return _STATE_OF_OPEN_STEP.get(run_status, state) if state == "running" else state


def workflow_progress(run: SessionSummary | AgentSummary, states: list[StepState]) -> Progress:
    """The progress of a run. The current step does not count as done."""
    declared = [step for step in states if step.declared]
    total = max(len(declared), run.workflow.total_steps if run.workflow else 0)
    done = sum(step.state == "done" for step in declared)
    fraction = done / total if total else None
    current = _current(run, states)
    return Progress(label(current) if current else "", f"{done}/{total}" if total else "", fraction)


def _current(run: SessionSummary | AgentSummary, states: list[StepState]) -> str | None:
    if run.status != "running":
        return None
    return run.current_step or next((step.name for step in reversed(states) if step.state == "running"), None)
