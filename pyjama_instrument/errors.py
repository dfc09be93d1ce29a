"""Every exception this package raises on purpose.

    PyjamaError
    ├── ConfigError          a wrong argument, option or environment variable (also a ValueError)
    ├── StoreError           the store cannot be used
    │   ├── StoreUnavailable     the directory cannot be created, opened or trusted
    │   ├── SchemaTooNew         the store was written by a newer version of this package
    │   └── UnsupportedSystem    there can be no store on this operating system
    ├── ViewerError          the dashboard could not be started
    └── SessionNotFound      there is no run with that id (also a KeyError)

Only calls of this package raise them, never a decorated function.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "PyjamaError",
    "SchemaTooNew",
    "SessionNotFound",
    "StoreError",
    "StoreUnavailable",
    "UnsupportedSystem",
    "ViewerError",
]


class PyjamaError(Exception):
    """Base of all errors raised by this package."""


class ConfigError(PyjamaError, ValueError):
    """An argument, option or environment variable has a value that cannot be used."""


class StoreError(PyjamaError):
    """The store cannot be used."""


class StoreUnavailable(StoreError):
    """The store's directory cannot be created, opened or trusted."""


class SchemaTooNew(StoreError):
    """The store was written by a newer version of this package; upgrade to read it."""


class UnsupportedSystem(StoreError):
    """This operating system lacks what a store needs: use Linux or macOS."""


class ViewerError(PyjamaError):
    """The dashboard could not be started."""


class SessionNotFound(PyjamaError, KeyError):
    """The store has no run with that id."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
