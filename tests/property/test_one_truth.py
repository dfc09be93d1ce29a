"""One truth for a run: what is known of it does not depend on whether the dashboard still lists it.

The same history is read twice: by a store that lists every run, and by one that lists three. Both must say the same of
each run, however it ended and whichever process recorded which part of it, and the counters of neither may fall.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.reader import Reader
from tests.scale import full
from tests.stores import START_US, Record, Writer, a_call, call_begins, fold, session_begins, session_ends, step_begins

ENDINGS = (
    "an idle worker",
    "completed",
    "failed",
    "cancelled",
    "crashed",
    "crashed in a call",
    "a worker died",
    "running",
)
AGENTS = ("indexer", "backup")


def records_of(
    session: str, agent: str, parent: str | None, ending: str, calls: int, ts: int
) -> tuple[list[Record], list[Record]]:
    """What a run's own process records: its beginning, and the rest."""
    more: dict[str, Any] = {"tags": {"n": session[-1]}}
    if ending == "an idle worker":  # it leaves without a word, and nothing was under way
        more |= {"implicit": True, "worker": True}
    if parent is not None:
        more |= {"parent_session": parent, "parent": "0000000000000001"}
    workflow = {"kind": "workflow.declared", "agent": agent, "session": session, "ts": ts, "steps": ["one", "two"]}
    step = step_begins("one", f"{ts % 10**12:016x}", session, agent, ts)
    error = {"type": "builtins.KeyError", "message": "'order'"}
    rest = [a_call("work", session, agent, ts + 1000 * n) for n in range(calls)]
    if ending == "failed":
        rest.append(a_call("work", session, agent, ts + 9000, status="error", error=error))
    attributes = {"tokens": calls, "model": "m"}
    rest.append({"kind": "annotated", "agent": agent, "session": session, "ts": ts + 9500, "attributes": attributes})
    if ending == "crashed in a call":
        rest.append(call_begins("stuck", session, agent, ts + 9600))
    if ending in ("completed", "cancelled", "a worker died"):
        status = "completed" if ending == "a worker died" else ending
        rest.append(session_ends(session, agent, ts + 10_000, status=status))
    if ending == "failed":
        rest.append(session_ends(session, agent, ts + 10_000, status="failed", error=error))
    return [session_begins(session, agent, ts, **more), workflow, step], rest


class Twins:
    """A process that records into two stores at once."""

    def __init__(self, homes: tuple[Path, Path], writer: str) -> None:
        self._writers = [Writer(home, writer) for home in homes]

    def write(self, *records: Record) -> None:
        for writer in self._writers:
            writer.write(*records)

    def die(self) -> None:
        for writer in self._writers:
            writer.die()


Plan = list[tuple[str, str, int, int, int]]
"""Of each run: how it ends, its agent, its calls, which run it is inside, and an order of what is left open."""


def play(homes: tuple[Path, Path], plan: Plan) -> Iterator[set[str]]:
    """Record the runs of a plan one after the other; stops now and then, to be looked at, with the runs so far."""
    sessions: list[str] = []
    with ExitStack() as alive:
        for number, (ending, agent, calls, parent, order) in enumerate(plan):
            session, ts = f"{number + 1:032x}", START_US + number * 1_000_000
            inside = sessions[parent % len(sessions)] if sessions and parent else None
            sessions.append(session)
            own, other = f"{2 * number + order % 2:016x}", f"{2 * number + 1 - order % 2:016x}"
            writer = Twins(homes, own)
            begin, rest = records_of(session, agent, inside, ending, calls, ts)
            writer.write(*begin)
            yield set(sessions)
            if ending == "a worker died":
                worker = Twins(homes, other)
                worker.write(a_call("piece", session, agent, ts + 8000), call_begins("lost", session, agent, ts + 9000))
                if order % 3 == 0:
                    yield set(sessions)
                writer.write(*rest)
                if order % 5 == 0:
                    yield set(sessions)
                worker.die()
            else:
                writer.write(*rest)
            if ending == "running":
                alive.callback(writer.die)
            else:
                writer.die()
            yield set(sessions)


@contextmanager
def limits(ended: int, running: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIMITS, "ended-sessions", ended)
        patch.setitem(LIMITS, "running-sessions", running)
        yield


def said(tree: SessionTree) -> dict[str, Any]:
    """Everything about a run, but for how it came to be known."""
    shown = tree.to_dict()
    for run in (shown["session"], *shown["relatives"].values()):
        run.pop("partial")
        run["total-duration"] = round(run["total-duration"], 6)
    return shown


def counters(data: DashboardData) -> dict[str, int]:
    """Those that only a clear makes fall."""
    ended = {key: value for key, value in data.runs.to_dict().items() if key != "running"}
    overall = data.metrics.global_
    return ended | {"calls": overall.count, "errors": overall.error}


PLANS = st.lists(
    st.tuples(
        st.sampled_from(ENDINGS), st.sampled_from(AGENTS), st.integers(0, 3), st.integers(0, 9), st.integers(0, 30)
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=full(1000, 25), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(PLANS, st.integers(0, 3), st.integers(1, 3), st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_run_reads_the_same_listed_or_not_and_no_counter_falls(
    plan: Plan, ended: int, running: int, folds: list[bool]
) -> None:
    place = Path(tempfile.mkdtemp())
    few, all_of_them = place / "few", place / "all"
    before: dict[str, int] = {}
    try:
        for at, sessions in enumerate(play((few, all_of_them), plan)):
            with limits(ended, running):
                if folds[at % len(folds)]:
                    fold(few)
                reader = Reader(few)
                known = {sid: said(reader.session(sid)) for sid in sessions}
                data = reader.dashboard()
            expected = Reader(all_of_them)
            assert known == {sid: said(expected.session(sid)) for sid in sessions}
            assert data.runs == expected.dashboard().runs
            now = counters(data)
            assert all(now[key] >= count for key, count in before.items())
            before = now
            for name, agent in data.agents.items():
                shown = known[str(agent.session)]["session"]
                assert (agent.status, name) == (shown["status"], shown["agent-id"])
    finally:
        shutil.rmtree(place)
