"""Settings: where the store is and whether anything is recorded; and the rule for names.

Precedence: ``configure()``, then the environment (``PYJAMA_HOME``, ``PYJAMA_DISABLED``, ``PYJAMA_ERROR_MESSAGES``),
then the default ``~/.pyjama``. Nothing is read from files.
"""

from __future__ import annotations

import os

from pyjama_instrument import _platform
from pyjama_instrument.errors import ConfigError, StoreUnavailable

__all__ = [
    "MAX_NAME",
    "check_name",
    "clean_text",
    "disabled_by_environment",
    "error_messages_by_environment",
    "home_to_write",
    "resolve_home",
    "set_home",
]

MAX_NAME = 256
"""Longest name of an agent, tool or step, in characters."""

_NO = ("0", "false", "no")

_configured_home: str | None = None
_relative: dict[str, str] = {}  # a relative path is resolved once, because the program may change its directory later


def set_home(home: str | os.PathLike[str] | None) -> None:
    """Use ``home`` instead of the environment from now on; None undoes that.

    Raises:
        ConfigError: ``home`` is empty or not a path.
    """
    global _configured_home
    _configured_home = None if home is None else _checked_path(home)


def resolve_home(home: str | os.PathLike[str] | None = None) -> str:
    """Absolute path of the store. The directory need not exist.

    Raises:
        ConfigError: ``home`` is given and cannot be a path.
        StoreUnavailable: the user's home directory is unknown.
        UnsupportedSystem: there can be no store on this system.
    """
    _platform.require()
    if home is not None:
        return _checked_path(home)
    if _configured_home is not None:
        return _configured_home
    if from_environment := os.environ.get("PYJAMA_HOME"):
        if os.path.isabs(os.path.expanduser(from_environment)):
            return _checked_path(from_environment)
        if from_environment not in _relative:
            _relative[from_environment] = _checked_path(from_environment)
        return _relative[from_environment]
    return os.path.join(_user_home(), ".pyjama")


def home_to_write() -> str:
    """The same for the write side, which creates the directory and files in it.

    The default is refused if the home directory belongs to another user: ``sudo`` may leave ``HOME`` as it was, and
    root's files would end up there. A directory that you name is not refused.

    Raises:
        StoreUnavailable: the user's home directory is unknown, or it belongs to another user.
        UnsupportedSystem: there can be no store on this system.
    """
    home = resolve_home()
    if _configured_home is None and not os.environ.get("PYJAMA_HOME"):
        _check_whose(os.path.dirname(home))
    return home


def _check_whose(directory: str) -> None:
    try:
        owner = os.stat(directory).st_uid
    except OSError:
        return  # creating it reports what is wrong
    if owner not in (os.geteuid(), 0):  # containers that run as any user have a home of root's
        raise StoreUnavailable(
            f"{directory} is the home of another user (HOME is set to it): set PYJAMA_HOME to a directory you own"
        )


def disabled_by_environment() -> bool:
    """Whether ``PYJAMA_DISABLED`` is set to anything but empty, ``0``, ``false`` or ``no``."""
    return os.environ.get("PYJAMA_DISABLED", "").strip().lower() not in ("", *_NO)


def error_messages_by_environment() -> bool:
    """Whether messages of exceptions are recorded: not if ``PYJAMA_ERROR_MESSAGES`` is ``0``, ``false`` or ``no``."""
    return os.environ.get("PYJAMA_ERROR_MESSAGES", "").strip().lower() not in _NO


def check_name(value: object, what: str) -> str:
    """``value`` as a usable name: a string of 1 to 256 characters that is not blank.

    Lone surrogates, which a JSON parser may refuse, are replaced; all other characters are kept.

    Raises:
        ConfigError: ``value`` is something else.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise ConfigError(f"{what} must not be empty")
    if len(value) > MAX_NAME:
        raise ConfigError(f"{what} must have at most {MAX_NAME} characters, not {len(value)}")
    return clean_text(value)


def clean_text(text: str) -> str:
    """``text`` as a plain ``str`` that is valid Unicode: lone surrogates become ``?``."""
    if text.isascii():
        return str.__str__(text)
    return str.encode(text, "utf-8", "replace").decode("utf-8")


def _checked_path(home: object) -> str:
    try:
        path = os.fspath(home)  # type: ignore[call-overload]  # any object may be passed: this is the check
    except TypeError:
        raise ConfigError(f"home must be a path, not {type(home).__name__}") from None
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ConfigError(f"home must be a non-empty path of text, not {path!r:.80}")
    try:
        return os.path.abspath(os.path.expanduser(path))
    except OSError as error:
        raise StoreUnavailable(
            f"cannot resolve {path}: the working directory no longer exists ({error.strerror}). "
            "Set an absolute path in PYJAMA_HOME, or change to a directory that exists"
        ) from None


def _user_home() -> str:
    # With an empty HOME, expanduser() would return the root directory.
    if home := os.environ.get("HOME"):
        return home
    try:
        return _platform.pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise StoreUnavailable("the user's home directory is unknown: set HOME or PYJAMA_HOME") from None
