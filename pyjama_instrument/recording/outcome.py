"""The status of a call, a step, a run or the program that an exception ends.

Three kinds of exceptions are no failures: those that cancel (every ``BaseException`` that is no ``Exception``), those
that are control flow, such as a framework's "pause here", and the ``SystemExit`` of success. Control flow is recognized
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

# Classes that are control flow, as their subclasses are: module and qualified name. None of them is imported here.
_CONTROL_FLOW = frozenset({
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
)  # a bug in a library's Rust code; it is no Exception, so that nothing catches it

_of_process: Declared = NOTHING
_matched: dict[int, Any] = {}  # weak references to exceptions that the declaration of a tool matched, by id


def outcome(
    error: BaseException, tool: str | None = None, control_flow: Declared = NOTHING
) -> tuple[Status, dict[str, Any] | None]:
    """The status of what ``error`` ends, ``ok``, ``error`` or ``cancelled``, and what to record of the error.

    Args:
        error: the exception.
        tool: the name of the tool, if it ends a call.
        control_flow: what the tool declares to be control flow.
    """
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "ok", None
    return ("cancelled" if _is_no_failure(error, control_flow) else "error"), policy.failure(error, tool)


def checked(control_flow: object) -> Declared:
    """Check what a program declares to be control flow.

    Raises:
        ConfigError: it is neither exception classes nor dotted names.
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
    """Set what is control flow in this process, besides the known classes."""
    global _of_process
    _of_process = control_flow


def reset() -> None:
    """Undo :func:`configure`."""
    configure(NOTHING)


def _is_no_failure(error: BaseException, control_flow: Declared) -> bool:
    """Whether the exception cancels or is control flow; for a group, whether all its exceptions are."""
    todo = [error]
    while todo:
        error = todo.pop()
        if _is_control_flow(error, control_flow):
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


def _is_control_flow(error: BaseException, control_flow: Declared) -> bool:
    if _matched and (reference := _matched.get(id(error))) is not None and reference() is error:
        return True
    lineage = type(error).__mro__
    if control_flow and _matches(lineage, control_flow):
        _remember(error)
        return True
    return not _CONTROL_FLOW.isdisjoint(map(_name, lineage)) or (bool(_of_process) and _matches(lineage, _of_process))


def _matches(lineage: tuple[type, ...], declared: Declared) -> bool:
    """Whether one of the classes is declared, itself or by a name, also one that another module gives it."""
    if any(kind in declared or _name(kind) in declared for kind in lineage):
        return True
    return any(_found(name) in lineage for name in declared if isinstance(name, str))


def names_of(declared: Declared) -> tuple[str, ...]:
    """The same as names, which can be pickled even if the classes cannot."""
    return tuple(sorted(each if isinstance(each, str) else _name(each) for each in declared))


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _found(name: str) -> Any:
    """The object with a dotted name, if its module is already imported."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), "__dict__", {}).get(attribute)


def _remember(error: BaseException) -> None:
    """Remember the exception, because the steps and runs that it ends have not failed either.

    A weak reference keeps nothing alive and changes nothing in the program's object. Built-in exceptions do not support
    them: for those, only the calls of the tool itself end as cancelled.
    """
    from weakref import ref

    key = id(error)
    try:
        _matched[key] = ref(error, lambda _: _matched.pop(key, None))
    except TypeError:
        pass


_MAIN = ("<module>", "_run_module_as_main")


def what_ended_the_program() -> BaseException | None:
    """The exception that is ending the interpreter; None if it ends without one.

    Python leaves the last exception that it printed in ``sys.last_exc``. But so do interactive prompts, notebooks,
    debuggers and GUI toolkits, whose program continues. An exception that ended the program has left the outermost
    frame: that of the main module, or of the code that runs ``-m``.
    """
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(error, BaseException) or error.__traceback__ is None:
        return None
    frame = error.__traceback__.tb_frame
    code = frame.f_code
    is_main = frame.f_globals.get("__name__") in ("__main__", "runpy") and code.co_name in _MAIN
    if frame.f_back is not None or not is_main or _continues_at_a_prompt(code.co_filename):
        return None
    return error


def _continues_at_a_prompt(file: str) -> bool:
    """Whether Python shows a prompt after an exception in the main module, or the exception was raised at a prompt."""
    of_a_prompt = file.startswith("<stdin") and hasattr(sys, "ps1")  # "<stdin>-0" in Python 3.13, "<stdin-0>" since
    return bool(sys.flags.inspect or os.environ.get("PYTHONINSPECT") or of_a_prompt)
