"""How something ends that an exception leaves: a call, a step, a run or the program itself.

Three kinds of exceptions have not failed: those that cancel (every ``BaseException`` that is no ``Exception``), those
that only steer the program, such as a framework's "pause here", and the ``SystemExit`` of success. What steers is known
by the name of its class, so that no framework has to be imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from pyjama_instrument.errors import ConfigError
from pyjama_instrument.redaction import policy

__all__ = ["ControlFlow", "Declared", "checked", "configure", "names_of", "outcome", "reset", "what_ended_the_program"]

ControlFlow: TypeAlias = type[BaseException] | str
"""An exception class, or its dotted name: ``"package.module.Pause"``."""

Declared: TypeAlias = frozenset[ControlFlow]
Status: TypeAlias = Literal["ok", "error", "cancelled"]

NOTHING: Declared = frozenset()

# Classes whose exceptions, and their subclasses', steer: module and qualified name. None of them is imported here.
_STEERING = frozenset({
    "airflow.exceptions.AirflowRescheduleException",
    "airflow.exceptions.AirflowSkipException",
    "airflow.sdk.exceptions.AirflowRescheduleException",
    "airflow.sdk.exceptions.AirflowSkipException",
    "bdb.BdbQuit",
    "celery.exceptions.TaskPredicate",  # Retry, Ignore, Reject
    "click.exceptions.Abort",
    "dramatiq.errors.Retry",
    "huey.exceptions.CancelExecution",
    "huey.exceptions.RetryTask",
    "langgraph.errors.GraphBubbleUp",  # GraphInterrupt, NodeInterrupt, ParentCommand
    "langgraph.errors.GraphInterrupt",  # no GraphBubbleUp in early versions
    "prefect.exceptions.CancelledRun",
    "prefect.exceptions.PausedRun",
    "prefect.exceptions.PrefectSignal",  # Pause, Abort
    "pydantic_ai.exceptions.ApprovalRequired",
    "pydantic_ai.exceptions.CallDeferred",
    "pydantic_ai.exceptions.ModelRetry",
    "pydantic_ai.exceptions.RetryModelRequest",
    "pydantic_ai.exceptions.RunCancelled",
    "pydantic_ai.exceptions.SkipModelRequest",
    "pydantic_ai.exceptions.SkipToolExecution",
    "pydantic_ai.exceptions.SkipToolValidation",
    "pydantic_ai.exceptions.ToolRetryError",
    "temporalio.exceptions.CancelledError",
    "unittest.case.SkipTest",
})  # fmt: skip
_FAULTS = frozenset(
    {"pyo3_runtime.PanicException"}
)  # a bug in a library's Rust code, no Exception so as not to be caught

_of_process: Declared = NOTHING
_seen: dict[int, Any] = {}  # weak references to exceptions that a tool's own declaration matched, by id


def outcome(
    error: BaseException, tool: str | None = None, control_flow: Declared = NOTHING
) -> tuple[Status, dict[str, Any] | None]:
    """How something ends that is left by ``error``: ``ok``, ``error`` or ``cancelled``, and what to record of it.

    Args:
        error: the exception.
        tool: the tool that it leaves, if that is a call.
        control_flow: what the tool has declared to be control flow.
    """
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "ok", None
    return ("cancelled" if _is_no_failure(error, control_flow) else "error"), policy.failure(error, tool)


def checked(control_flow: object) -> Declared:
    """The exceptions that somebody declares to be control flow.

    Raises:
        ConfigError: neither exception classes nor dotted names.
    """
    if isinstance(control_flow, str | type):
        return frozenset({_checked_one(control_flow)})
    if not isinstance(control_flow, Iterable):
        raise ConfigError(f"control_flow must be a tuple of exception classes, not {type(control_flow).__name__}")
    return frozenset(map(_checked_one, control_flow))


def _checked_one(declared: object) -> ControlFlow:
    if isinstance(declared, type) and issubclass(declared, BaseException):
        return declared
    if isinstance(declared, str):
        parts = declared.split(".")
        if len(parts) > 1 and all(part.isidentifier() for part in parts):
            return str(declared)
        raise ConfigError(f'control_flow needs the module too, such as "package.module.Pause", not {declared!r:.80}')
    what = declared.__name__ if isinstance(declared, type) else type(declared).__name__
    raise ConfigError(f"control_flow takes exception classes and their dotted names, not {what}")


def configure(control_flow: Declared) -> None:
    """Set what steers in this process, besides what is known to."""
    global _of_process
    _of_process = control_flow


def reset() -> None:
    """Take back what was set."""
    configure(NOTHING)


def _is_no_failure(error: BaseException, control_flow: Declared) -> bool:
    """Whether the exception cancels or steers; of a group, whether all that is in it does."""
    todo = [error]
    while todo:
        error = todo.pop()
        if _steers(error, control_flow):
            continue
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        elif isinstance(error, Exception) or _is_fault(error):
            return False
    return True


def _is_fault(error: BaseException) -> bool:
    if isinstance(error, SystemExit):
        return error.code not in (None, 0)
    return not _FAULTS.isdisjoint(map(_name, type(error).__mro__))


def _steers(error: BaseException, control_flow: Declared) -> bool:
    if _seen and (reference := _seen.get(id(error))) is not None and reference() is error:
        return True
    lineage = type(error).__mro__
    if control_flow and _matches(lineage, control_flow):
        _remember(error)
        return True
    return not _STEERING.isdisjoint(map(_name, lineage)) or (bool(_of_process) and _matches(lineage, _of_process))


def _matches(lineage: tuple[type, ...], declared: Declared) -> bool:
    """Whether one of the classes is declared, as itself or by its name, also one that another module gives it."""
    if any(kind in declared or _name(kind) in declared for kind in lineage):
        return True
    return any(_found(name) in lineage for name in declared if isinstance(name, str))


def names_of(declared: Declared) -> tuple[str, ...]:
    """The same by name only, so that it can be pickled wherever the classes come from."""
    return tuple(sorted(each if isinstance(each, str) else _name(each) for each in declared))


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _found(name: str) -> Any:
    """What is known under a dotted name, without importing anything."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), "__dict__", {}).get(attribute)


def _remember(error: BaseException) -> None:
    """The steps and runs that this very exception leaves, too, have not failed.

    It is known by a weak reference: nothing is held on to, and nothing is written into the program's object. Built-in
    exceptions take none; of them, only the tool's own calls are known.
    """
    from weakref import ref

    key = id(error)
    try:
        _seen[key] = ref(error, lambda _: _seen.pop(key, None))
    except TypeError:
        pass


_MAIN = ("<module>", "_run_module_as_main")


def what_ended_the_program() -> BaseException | None:
    """The exception that is ending the interpreter; None if it ends well.

    Python leaves the last exception it has shown in ``sys.last_exc``. But so do interactive prompts, notebooks,
    debuggers and GUI toolkits, whose program goes on. The one that ended the program has left the frame that nobody
    has called: the main module's, or that of the machinery which runs ``-m``.
    """
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(error, BaseException) or error.__traceback__ is None:
        return None
    frame = error.__traceback__.tb_frame
    code = frame.f_code
    is_main = frame.f_globals.get("__name__") in ("__main__", "runpy") and code.co_name in _MAIN
    if frame.f_back is not None or not is_main or _goes_on_at_a_prompt(code.co_filename):
        return None
    return error


def _goes_on_at_a_prompt(file: str) -> bool:
    """Whether Python's own prompt comes after an exception in the main module, or the exception came from a prompt."""
    of_a_prompt = file.startswith("<stdin") and hasattr(sys, "ps1")  # "<stdin>-0" in Python 3.13, "<stdin-0>" since
    return bool(sys.flags.inspect or os.environ.get("PYTHONINSPECT") or of_a_prompt)
