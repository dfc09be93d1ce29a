"""Redaction of every recorded value, before it is written.

Captured arguments and results, messages of exceptions, attributes, tags, specs and the command line all pass through
here. A value that looks like a secret is masked. A function given to ``configure(redact=...)`` decides last on every
value. If it fails, the value is not recorded, and the error is reported once on stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from pyjama_instrument import _guard
from pyjama_instrument.config import error_messages_by_environment
from pyjama_instrument.redaction import json_values
from pyjama_instrument.redaction.secret_patterns import REDACTED, is_secret_name, mask_text

__all__ = ["REDACTED", "Field", "Place", "Redactor"]

Place: TypeAlias = Literal["arguments", "result", "error", "attributes", "tags", "spec", "argv"]
"""The part of an event that a value is recorded in."""

_LONGEST_ARGUMENT = 256
_MOST_ARGUMENTS = 64


class Field(NamedTuple):
    """One value that is about to be recorded: the argument of a redaction function.

    Attributes:
        place: ``arguments`` or ``result`` of a captured call, the message of an ``error``, ``attributes``, ``tags`` or
            ``spec`` of a session, or ``argv``, one argument of the command line.
        key: the name of the parameter, or the key in the dictionary. Items of a list have the key of the list.
        value: the value, as JSON-safe data cut to a bounded size.
        masked: the value with everything masked that looks like a secret. Without your function, this is recorded.
        tool: the tool's name; None if the value belongs to no call.
    """

    place: Place
    key: str
    value: Any
    masked: Any
    tool: str | None = None


Redactor: TypeAlias = Callable[[Field], Any]
"""Returns what to record instead of ``field.value``, for example ``field.masked`` or ``REDACTED``."""

redactor: Redactor | None = None
error_messages = error_messages_by_environment()


def redact_value(place: Place, value: Any, tool: str | None = None) -> Any:
    """Any Python value as bounded JSON-safe data, redacted."""
    return redact_json(place, json_values.jsonable(value), tool)


def redact_mapping(place: Place, value: dict[str, Any], tool: str | None = None) -> dict[str, Any]:
    """A dictionary as bounded JSON-safe data, redacted. The result is a dictionary."""
    return redact_json_mapping(place, json_values.jsonable(value), tool)


def redact_json_mapping(place: Place, value: dict[str, Any], tool: str | None = None) -> dict[str, Any]:
    """A dictionary of bounded JSON-safe data, redacted. The result is a dictionary."""
    result = redact_json(place, value, tool)
    return result if type(result) is dict else {"…": REDACTED}


def redact_json(place: Place, value: Any, tool: str | None = None) -> Any:
    """Bounded JSON-safe data, redacted."""
    try:
        return _redact(place, "", value, tool)
    except Exception as fault:
        _guard.swallow(fault, "redaction")
        return REDACTED


def failure(error: BaseException, tool: str | None = None) -> dict[str, Any]:
    """The type, the redacted message and the traceback of an exception."""
    info = json_values.error_info(error)
    info["message"] = message(info["message"], tool)
    return info


def message(text: str, tool: str | None = None) -> str:
    """The message of an exception, cut to a bounded size, redacted."""
    if not error_messages:
        return REDACTED
    result = redact_json("error", text, tool)
    return result if isinstance(result, str) else REDACTED


def command_line(argv: Iterable[object]) -> list[str]:
    """A command line, redacted: also the values of options whose names look like secrets."""
    result, secret = [], False
    for argument in list(argv)[:_MOST_ARGUMENTS]:
        text = json_values.jsonable(str(argument), _LONGEST_ARGUMENT)
        name, equals, _ = text.partition("=")
        is_option = name.startswith("-")
        if secret and not is_option:
            result.append(REDACTED)
        elif is_option and equals and _is_secret_option(name):
            result.append(f"{name}={REDACTED}")
        else:
            result.append(str(redact_json("argv", text)))
        secret = is_option and not equals and _is_secret_option(name)
    return result


def _is_secret_option(name: str) -> bool:
    return is_secret_name(name) or name.lower().endswith("key")


def _redact(place: Place, key: str, value: Any, tool: str | None) -> Any:
    """Redact a container before its items, so that the function can replace it as a whole."""
    masked = _masked(key, value)
    if redactor is None:
        result = masked
    else:
        try:
            result = redactor(Field(place, key, value, masked, tool))
        except Exception as fault:
            _guard.swallow(fault, "redact")
            return REDACTED
        if result is not value and result is not masked:
            return json_values.jsonable(result)
    if result is value and type(value) is dict:
        return {mask_text(name): _redact(place, name, inner, tool) for name, inner in value.items()}
    if result is value and type(value) is list:
        return [_redact(place, key, inner, tool) for inner in value]
    return result


def _masked(key: str, value: Any) -> Any:
    if value is not None and key and is_secret_name(key, value):
        return REDACTED
    return mask_text(value) if type(value) is str else value


def configure(redact: Redactor | Literal[False] | None, messages: bool | None) -> None:
    """Change the given settings, which have been checked. None leaves a setting as it is."""
    global redactor, error_messages
    if redact is not None:
        redactor = redact or None
    if messages is not None:
        error_messages = messages


def reset() -> None:
    """Set the settings to those of the environment."""
    global redactor, error_messages
    redactor = None
    error_messages = error_messages_by_environment()
