"""The option ``--home``: which store a command uses, and whether there is one."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from pyjama_instrument.config import resolve_home
from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, SNAPSHOT, list_segments

__all__ = ["check_home", "home_in_force", "nothing_is_recorded"]


@contextlib.contextmanager
def home_in_force(home: str | None) -> Iterator[None]:
    """Use ``home`` as the store of this process and its children, by way of the environment.

    Raises:
        StoreUnavailable: the path is empty or cannot be resolved.
    """
    if home is None:
        yield
        return
    before = os.environ.get("PYJAMA_HOME")
    os.environ["PYJAMA_HOME"] = resolve_home(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYJAMA_HOME"]
        else:
            os.environ["PYJAMA_HOME"] = before


def check_home(given: str | None, *, reading: bool) -> None:
    """Refuse a path that cannot be a store; for a command that reads, also a ``--home`` that holds none.

    Raises:
        StoreUnavailable: the path is refused.
    """
    if given is None and not reading:
        return  # recording and the dashboard check the default store themselves
    home = resolve_home()
    try:
        found = os.stat(home)
        names = os.listdir(home) if reading and stat.S_ISDIR(found.st_mode) else []
    except FileNotFoundError:
        if given is None or not reading:  # nothing is recorded yet
            return
        raise StoreUnavailable(f"there is no store at {home}. Check the directory after --home") from None
    except OSError as error:
        if not reading:  # recording reports it and lets the program run
            return
        raise StoreUnavailable(
            f"cannot read {home}: {error.strerror or error}. Check its permissions, or use another store with --home"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise StoreUnavailable(f"{home} is not a directory. Give a directory with --home or PYJAMA_HOME")
    if given is not None and names and not {JOURNAL, HISTORY, SNAPSHOT}.intersection(names):
        raise StoreUnavailable(f"there is no store at {home}, only other files. Check the directory after --home")


def nothing_is_recorded() -> bool:
    """Whether the store in force has no file of events."""
    try:
        return not any(list_segments(os.path.join(resolve_home(), name)) for name in (JOURNAL, HISTORY))
    except OSError:  # a directory that cannot be read may hold some
        return False
