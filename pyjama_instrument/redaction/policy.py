"""What may be recorded of the values that a program lets us see, decided before anything is written.

Arguments and results that were captured, messages of exceptions, attributes, tags, specs and the command line all come
through here. What looks like a secret is masked. A function given to ``configure(redact=...)`` has the last word on
every value. If it fails, the value is withheld, and the fault is reported once on stderr.
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
"""Where a value is about to be recorded."""

_LONGEST_ARGUMENT = 256
_MOST_ARGUMENTS = 64


class Field(NamedTuple):
    """One value that is about to be recorded, as a redaction function sees it.

    Attributes:
        place: ``arguments`` or ``result`` of a captured call, the message of an ``error``, ``attributes``, ``tags`` or
            ``spec`` of a session, or ``argv``, one argument of the command line.
        key: the nearest name: of the parameter, of the dictionary's key; items of a list have the list's.
        value: the value itself, as JSON-safe data that is cut to a bounded size already.
        masked: what is recorded without your function: ``value`` with what looks like a secret masked.
        tool: the tool called; None if the value belongs to no call.
    """

    place: Place
    key: str
    value: Any
    masked: Any
    tool: str | None = None


Redactor: TypeAlias = Callable[[Field], Any]
"""Gives what is to be recorded in the place of ``field.value``: most often ``field.masked`` or ``REDACTED``."""

redactor: Redactor | None = None
error_messages = error_messages_by_environment()


def shown(place: Place, value: Any, tool: str | None = None) -> Any:
    """What may be recorded of any Python value, as bounded JSON-safe data."""
    return allowed(place, json_values.jsonable(value), tool)


def shown_mapping(place: Place, value: dict[str, Any], tool: str | None = None) -> dict[str, Any]:
    """The same of a dictionary, as a dictionary."""
    return allowed_mapping(place, json_values.jsonable(value), tool)


def allowed_mapping(place: Place, value: dict[str, Any], tool: str | None = None) -> dict[str, Any]:
    """What may be recorded of a dictionary of JSON-safe data."""
    answer = allowed(place, value, tool)
    return answer if type(answer) is dict else {"…": REDACTED}


def allowed(place: Place, value: Any, tool: str | None = None) -> Any:
    """What may be recorded of a value that is bounded JSON-safe data already."""
    try:
        return _allowed(place, "", value, tool)
    except Exception as fault:
        _guard.swallow(fault, "redaction")
        return REDACTED


def failure(error: BaseException, tool: str | None = None) -> dict[str, Any]:
    """What may be recorded of an exception: its type, its message, where it came from."""
    info = json_values.error_info(error)
    info["message"] = message(info["message"], tool)
    return info


def message(text: str, tool: str | None = None) -> str:
    """What may be recorded of an exception's message, which is cut to size already."""
    if not error_messages:
        return REDACTED
    answer = allowed("error", text, tool)
    return answer if isinstance(answer, str) else REDACTED


def command_line(argv: Iterable[object]) -> list[str]:
    """What may be recorded of a command line: without the values of options that look like secrets."""
    answer, secret = [], False
    for argument in list(argv)[:_MOST_ARGUMENTS]:
        text = json_values.jsonable(str(argument), _LONGEST_ARGUMENT)
        name, equals, _ = text.partition("=")
        is_option = name.startswith("-")
        if secret and not is_option:
            answer.append(REDACTED)
        elif is_option and equals and _is_secret_option(name):
            answer.append(f"{name}={REDACTED}")
        else:
            answer.append(str(allowed("argv", text)))
        secret = is_option and not equals and _is_secret_option(name)
    return answer


def _is_secret_option(name: str) -> bool:
    return is_secret_name(name) or name.lower().endswith("key")


def _allowed(place: Place, key: str, value: Any, tool: str | None) -> Any:
    """Containers before what is in them, so that one can be replaced as a whole."""
    masked = _masked(key, value)
    if redactor is None:
        answer = masked
    else:
        try:
            answer = redactor(Field(place, key, value, masked, tool))
        except Exception as fault:
            _guard.swallow(fault, "redact")
            return REDACTED
        if answer is not value and answer is not masked:
            return json_values.jsonable(answer)
    if answer is value and type(value) is dict:
        return {mask_text(name): _allowed(place, name, inner, tool) for name, inner in value.items()}
    if answer is value and type(value) is list:
        return [_allowed(place, key, inner, tool) for inner in value]
    return answer


def _masked(key: str, value: Any) -> Any:
    if value is not None and key and is_secret_name(key, value):
        return REDACTED
    return mask_text(value) if type(value) is str else value


def configure(redact: Redactor | Literal[False] | None, messages: bool | None) -> None:
    """Change the settings that are given. They have been checked."""
    global redactor, error_messages
    if redact is not None:
        redactor = redact or None
    if messages is not None:
        error_messages = messages


def reset() -> None:
    """The settings as the environment has them."""
    global redactor, error_messages
    redactor = None
    error_messages = error_messages_by_environment()
