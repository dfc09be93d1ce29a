"""The run that calls belong to if the program starts none.

It is the run that the parent process passed on or, without one, an implicit run named after the program, which lasts as
long as the process.
"""

from __future__ import annotations

import os
import sys

from pyjama_instrument.config import MAX_NAME, clean_text
from pyjama_instrument.recording.context import Scope, current
from pyjama_instrument.recording.propagation import inherited_scope
from pyjama_instrument.recording.recorder import recorder

__all__ = ["ambient", "enclosing_scope"]


def ambient() -> Scope:
    """The scope of a tool call outside any run."""
    known = recorder.ambient
    if known is not None and recorder.unforked[0]:
        return known
    recorder.notice_fork()
    inherited = inherited_scope()
    if inherited is not None:
        return recorder.sessions.set_ambient(inherited)
    return _begin_implicit()


def enclosing_scope() -> Scope | None:
    """The scope of the running code, entered or inherited; None outside any run.

    The implicit run does not count: it is for calls that have no other run, and never a parent.
    """
    scope = current.get() or recorder.ambient or inherited_scope()
    if scope is not None and scope is recorder.ambient and scope[0].open_records:
        return None
    return scope


def _begin_implicit() -> Scope:
    state = recorder.sessions.new(_program_name())
    scope = state, state.span
    recorder.sessions.describe_implicit(state)
    claimed = recorder.sessions.set_ambient(scope)
    if claimed is scope:
        try:
            recorder.sessions.start(state)
        except BaseException:
            recorder.sessions.unset_ambient(scope)
            raise
    return claimed


def _program_name() -> str:
    """The module given to ``python -m``, else the script's name, else ``python``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else os.path.basename(sys.argv[0] if sys.argv else "")
    name = clean_text(name.removesuffix(".py"))[:MAX_NAME]
    return name if name.strip() and name != "-c" else "python"
