"""Settings of this process, and what a program can ask of its recorder: the public functions."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

from pyjama_instrument.config import disabled_by_environment, set_home
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.recording import outcome as outcomes
from pyjama_instrument.recording.callable_wrappers import kind_of
from pyjama_instrument.recording.outcome import ControlFlow
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import Redactor, policy

__all__ = ["configure", "flush", "reset_for_testing"]


def configure(
    *,
    home: str | os.PathLike[str] | None = None,
    enabled: bool | None = None,
    redact: Redactor | Literal[False] | None = None,
    error_messages: bool | None = None,
    control_flow: Iterable[ControlFlow] | ControlFlow | None = None,
) -> None:
    """Change settings of this process. An argument that you leave out keeps its setting as it is.

    Args:
        home: the store's directory, instead of ``PYJAMA_HOME`` or ``~/.pyjama``. What was recorded before stays
            where it is; runs that are open appear in the new store too.
        enabled: False switches all recording off, True on.
        redact: a function that gets each value before it is recorded, as a :class:`redaction.Field`, and returns what
            to record instead; False removes it.
        error_messages: False records the type and place of an exception, and not its message.
        control_flow: exception classes, or their dotted names, that are control flow and no failures: what they end
            has the status ``cancelled``. They replace those set before; ``()`` removes all.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    for name, switch in (("enabled", enabled), ("error_messages", error_messages)):
        if switch is not None and not isinstance(switch, bool):
            raise ConfigError(f"{name} must be True or False, not {type(switch).__name__}")
    if redact is not None and redact is not False and (not callable(redact) or kind_of(redact) != "sync"):
        raise ConfigError("redact must be a plain function that takes a redaction.Field, or False")
    if control_flow is not None:
        outcomes.configure(outcomes.checked(control_flow))
    policy.configure(redact, error_messages)
    if redact is not None:
        recorder.journals.forget_command_line()
    if enabled is not None:
        recorder.enabled = enabled
        recorder.choose_path()
    if home is not None:
        set_home(home)
        recorder.journals.move()


def flush(timeout: float = 5.0) -> bool:
    """Bring ``metrics.json`` up to date with everything recorded so far, by this process and all others.

    The dashboard does not need it: it also reads what is not folded yet.

    Args:
        timeout: how long to wait for another process that is folding, in seconds.

    Returns:
        Whether all that this process has recorded is in the snapshot; False if events were dropped or the
        snapshot could not be written in time.

    Raises:
        ConfigError: ``timeout`` is not a number of seconds.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout <= 1e9:
        raise ConfigError("timeout must be a number of seconds, at least 0")
    return recorder.flush(timeout)


def reset_for_testing(home: str | os.PathLike[str] | None = None) -> None:
    """Forget everything this process has recorded, and continue in ``home``; None returns to the environment."""
    if recorder.background.flusher is not None:
        recorder.background.flusher.stop()
    recorder.journals.forget_command_line()
    set_home(home)
    recorder.journals.close()
    recorder.journals.forget_writer()
    recorder.epoch += 1
    recorder.reset()
    recorder.enabled = not disabled_by_environment()
    recorder.choose_path()
    policy.reset()
    outcomes.reset()
