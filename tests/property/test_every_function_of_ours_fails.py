"""Whatever of ours fails beneath a call, the host's functions behave as undecorated.

Each of our functions is replaced in turn by one that raises, and functions of every kind are run, decorated, in and out
of sessions: what can be seen of them must be what is seen of the plain ones. A few cannot be replaced: see ``_EXEMPT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyjama_instrument import agent_session, current_session, flush, tool
from pyjama_instrument.recording.context import current
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.settings import reset_for_testing
from pyjama_instrument.storage import compaction
from tests.property.internals import TARGETS, Target, replaced
from tests.property.programs import (
    ACTIONS,
    DECORATED,
    DECORATORS,
    PROGRAMS,
    Action,
    Log,
    Op,
    driven_async_generator,
    driven_coroutine,
    driven_generator,
    hooked,
    obeys_close,
    observed,
    undecorated,
)
from tests.scale import at_full_size, full
from tests.unit.recorded import calls, session_end

assert compaction  # imported before anything is replaced

_EXEMPT = {
    "called by the host itself, and beneath no call": """
        recording.activation.BoundFunction.__call__ recording.agent_session.agent_session.__aenter__
        recording.agent_session.agent_session.__aexit__ recording.agent_session.agent_session.__call__
        recording.agent_session.agent_session.__enter__ recording.agent_session.agent_session.__exit__
        recording.agent_session.agent_session.__init__ recording.propagation.child_environment
        recording.folding.Folding.flush recording.recorder.Recorder.flush
        recording.settings.configure recording.settings.flush
        recording.settings.reset_for_testing recording.session.Session.agent recording.session.Session.annotate
        recording.session.Session.bind recording.session.Session.cancel recording.session.Session.env
        recording.session.Session.fail recording.session.Session.id recording.session.Session.span
        recording.session.Session.step recording.session.Session.workflow recording.session.current_session
        recording.step.Step.__aenter__ recording.step.Step.__aexit__ recording.step.Step.__enter__
        recording.step.Step.__exit__ recording.tool.tool
    """,
    "refuses the host's arguments, by raising": """
        config.check_name config.clean_text recording.outcome.checked recording.session.check_steps
        recording.tool._check_capture
    """,
    "runs the host's function, so that there is nobody beneath to catch": """
        hooks._hooks_to_run hooks._run hooks.run_pre_hooks recording.agent_session.RunPerCall.begin_call
        recording.agent_session.RunPerCall.call_deferred recording.agent_session.RunPerCall.call_proxied
        recording.agent_session.RunPerCall.finish_call recording.callable_wrappers.Unstarted.take
        recording.callable_wrappers._first_step recording.callable_wrappers.call_after_begin
        recording.callable_wrappers.call_observed recording.callable_wrappers.call_sync
        recording.callable_wrappers.defer recording.callable_wrappers.finish_sync
        recording.fast_coroutine.recorded_coroutine recording.slow_path.RecordedCall._hook_argument
        recording.slow_path.RecordedCall.begin_with_pre_hooks recording.tool_state.Tool.begin_call
        recording.tool_state.Tool.call recording.tool_state.Tool.call_deferred recording.tool_state.Tool.finish_call
        recording.tool_state.Tool.make_coroutine_wrapper
    """,
    "catches everything itself": """
        _guard.swallow recording.activation.Activation.enter recording.activation.Activation.leave
        recording.agent_session.agent_session._begin recording.agent_session.agent_session._decorate
        recording.agent_session.agent_session._end recording.agent_session.agent_session._start
        recording.call_events.CallEvents.end recording.call_events.CallEvents.end_ok
        recording.callable_wrappers.with_name_of recording.context.leave_scope recording.entered_runs.ActiveRun.end
        recording.entered_runs.enter_run recording.entered_runs.leave_run recording.entered_runs.runs_entered_here
        recording.session.Session._record recording.slow_path.RecordedCall._run_post_hooks
        recording.slow_path.RecordedCall.begin recording.slow_path.RecordedCall.end
        recording.slow_path.RecordedCall.enter recording.slow_path.RecordedCall.item
        recording.slow_path.RecordedCall.leave recording.tool._decorate recording.tool_state.Tool.has_pre_hooks
    """,
    "only keeps what it is given": """
        recording.activation.Activation.__init__ recording.activation.Activation.end
        recording.activation.Activation.item recording.activation.BoundFunction.__init__
        recording.activation.BoundFunction._activate recording.activation.state_of
        recording.context.SessionState.__init__ recording.entered_runs.ActiveRun.__init__
        recording.session.Session.__init__ recording.session.unrecorded_session
        recording.slow_path.RecordedCall.__init__ recording.step.Step.__init__
    """,
}
_NOT_REPLACED = {name for names in _EXEMPT.values() for name in names.split()}

_PROGRAMS: list[tuple[Op, ...]] = [
    (
        Op("recurse", inside=(Op("yield", 1), Op("return", 5))),
        Op("swallow", error=KeyError, inside=(Op("yield", 4), Op("raise", error=KeyError))),
        Op("yield", 2),
        Op("return", 3),
    ),
    (Op("finally", inside=(Op("yield", 1), Op("raise", error=KeyboardInterrupt))),),
]
_ACTIONS: list[list[Action]] = [
    [("next", None)] * 5,
    [("next", None), ("send", 7), ("throw", ValueError), ("close", None)],
]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # the flusher may be the one that fails
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    with hooked():
        yield


def _functions(decorate: Callable[[Any], Any]) -> Log:
    log: Log = []
    for program in _PROGRAMS:
        log.append(observed(decorate, program))
        for actions in _ACTIONS:
            log.append(driven_generator(decorate, program, actions))
            log.append(driven_coroutine(decorate, program, actions))
            log.append(driven_async_generator(decorate, program, actions))
    return log


def _sessions() -> Log:
    log: Log = []
    with agent_session("a", workflow=["x"], tags={"k": 1}, spec={"s": 1}) as run:
        with run.step("x"):
            run.annotate(k=1)
            run.workflow(["x", "y"])
            log.append(run.bind(abs)(-3))
        try:
            with run.step("y"):
                raise ValueError("left the step")
        except ValueError as error:
            log.append(str(error))
        run.fail("because")
        run.cancel()
        log.append(run.env({}).keys() >= {"PYJAMA_PARENT", "PYJAMA_AGENT"})
        log.append((run.agent, len(run.id), len(run.span)))
    try:
        with agent_session("b"):
            raise ValueError("left the session")
    except ValueError as error:
        log.append(str(error))

    async def later() -> int:
        async with agent_session("c") as run, run.step("x"):
            return 5

    log.append(asyncio.run(later()))
    return log


_SEEN_OF_SESSIONS = [3, "left the step", True, ("a", 32, 16), "left the session", 5]


@pytest.fixture
def no_descriptor_stays_open() -> Iterator[None]:
    """A function of ours that was replaced may have been the one that would have kept or closed a descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    reset_for_testing()
    for fd in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):
            os.close(int(fd))


@pytest.mark.swallows
@pytest.mark.usefixtures("no_descriptor_stays_open")
@pytest.mark.parametrize("target", [target for target in TARGETS if str(target) not in _NOT_REPLACED], ids=str)
def test_the_host_does_not_notice_that_this_fails(target: Target) -> None:
    expected = _functions(undecorated)
    for make_error in full([_error, _os_error, _odd_error], [[_error, _os_error][len(str(target)) % 2]]):
        reset_for_testing()
        with replaced(target, make_error):
            for name, decorate in DECORATORS.items():
                assert _functions(decorate) == expected, name
                assert current.get() is None
            assert _sessions() == _SEEN_OF_SESSIONS
            assert current.get() is None
            flush(0.0)


def _error() -> Exception:
    return RuntimeError("injected")


def _os_error() -> Exception:
    return OSError(28, "injected")


def _odd_error() -> Exception:
    return _Unshowable()


class _Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even its message fails")


@at_full_size
@pytest.mark.swallows
@settings(max_examples=20000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    target=st.sampled_from([target for target in TARGETS if str(target) not in _NOT_REPLACED]),
    decorator=DECORATED,
    program=PROGRAMS.filter(obeys_close),
    actions=ACTIONS,
)
def test_any_function_of_the_host_s_while_any_of_ours_fails(
    target: Target, decorator: str, program: tuple[Op, ...], actions: list[Action]
) -> None:
    decorate = DECORATORS[decorator]
    with replaced(target, _error):
        seen = observed(decorate, program), driven_generator(decorate, program, actions)
        seen_later = driven_coroutine(decorate, program, actions), driven_async_generator(decorate, program, actions)
    assert seen == (observed(undecorated, program), driven_generator(undecorated, program, actions))
    assert seen_later[0] == driven_coroutine(undecorated, program, actions)
    assert seen_later[1] == driven_async_generator(undecorated, program, actions)
    assert current_session() is None


_PARTS_OF_THE_RECORDER = tuple(
    f"recording.{module}."
    for module in (
        "background_thread", "call_announcements", "event_writer", "folding", "journal_lifecycle", "open_sessions",
        "process_hooks", "recorder.Recorder._",
    )
)  # fmt: skip


@pytest.mark.swallows
def test_recording_goes_on_when_the_fault_has_gone() -> None:
    for target in TARGETS:
        if str(target).startswith(_PARTS_OF_THE_RECORDER) and str(target) not in _NOT_REPLACED:
            with replaced(target, _error):
                _functions(DECORATORS["tool"])
    recorder.journals.reopen_at_ns = 0  # as if the pause between attempts were over
    with agent_session("afterwards"):
        assert tool("works again")(abs)(-1) == 1
    assert session_end("afterwards").status == "completed"
    assert len(calls("works again")) == 1
    assert recorder.in_flight == {}


def test_what_is_exempt_exists() -> None:
    known = {str(target) for target in TARGETS}
    assert known >= _NOT_REPLACED
