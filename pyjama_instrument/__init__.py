"""Live, local instrumentation for AI agents and the tools they call.

Decorate tool functions with :func:`tool`, wrap agent runs in :class:`agent_session`, and run ``pyjama dashboard`` to
see them. Importing this package starts, opens and registers nothing.
"""

from __future__ import annotations

import sys as _sys

from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.recording.agent_session import agent_session
from pyjama_instrument.recording.session import Session, current_session
from pyjama_instrument.recording.settings import configure, flush
from pyjama_instrument.recording.tool import tool

__all__ = [
    "PyjamaError",
    "Session",
    "__version__",
    "agent_session",
    "configure",
    "current_session",
    "flush",
    "tool",
]

__version__ = "0.1.0"

# A function that is pickled by value refers to the names it uses by their module. So these have the one that stays.
for _public in (Session, agent_session, configure, current_session, flush, tool):
    _public.__module__ = __name__
for _module in ("instrument", "recorder", "session"):  # where version 0.1.0 had them
    _sys.modules[f"{__name__}.{_module}"] = _sys.modules[__name__]
