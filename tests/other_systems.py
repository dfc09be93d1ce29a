"""Another operating system, as far as Python shows it: a child process without what CPython does not have there.

What Windows lacks is read from the stubs of the standard library that mypy brings along: they say of each name where it
is. What Pyodide lacks was looked up in one (Python 3.14): a few modules, and processes. Its threads do not start.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mypy

__all__ = ["PYODIDE", "Taken", "run_without", "windows"]

Taken = dict[str, list[str] | None]
"""By module, the names that are not there; None if the module itself is not."""

_STUBS = Path(mypy.__file__).parent / "typeshed" / "stdlib"
_MODULES = ("mmap", "os", "select", "signal", "sys", "time")
_ROOT = Path(__file__).resolve().parents[1]

PYODIDE: Taken = {
    **dict.fromkeys(("_multiprocessing", "grp", "pwd", "resource", "syslog"), None),
    "os": ["forkpty", "geteuid", "posix_spawn", "posix_spawnp"],
}


def windows() -> Taken:
    """What there is on Linux and not on Windows."""
    absent: Taken = {stub.stem: None for stub in _STUBS.glob("[a-z]*.pyi") if not _is_on(stub, "win32")}
    for module in _MODULES:
        stub = _STUBS / module / "__init__.pyi"
        names = _names(stub if stub.exists() else _STUBS / f"{module}.pyi", "linux")
        gone = names - _names(stub if stub.exists() else _STUBS / f"{module}.pyi", "win32")
        absent[module] = sorted(gone)
    return absent


def _is_on(stub: Path, platform: str) -> bool:
    return bool(_names(stub, platform)) or not _names(stub, "linux")


def _names(stub: Path, platform: str) -> set[str]:
    return {name for name in _defined(ast.parse(stub.read_text()).body, platform) if not name.startswith("_")}


def _defined(body: list[ast.stmt], platform: str) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.If(test=test):
                condition = compile(ast.Expression(test), "a stub", "eval")
                holds = eval(condition, {"sys": _System(platform)})
                yield from _defined(statement.body if holds else statement.orelse, platform)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name


class _System:
    version_info = sys.version_info

    def __init__(self, platform: str) -> None:
        self.platform = platform


def run_without(taken: Taken, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that lacks what was taken away, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-m", "tests.other_systems", json.dumps(taken), source]
    return subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment
    )


# -- in the child


def _take_away(taken: Taken) -> None:
    for name in _LOADED:  # what the standard library has in another form there, it has here by now
        importlib.import_module(name)
    if "register_at_fork" in (taken.get("os") or ()):
        os.supports_dir_fd.clear()
    for name, gone in taken.items():
        if gone is None:
            sys.modules[name] = None  # type: ignore[assignment]  # the documented way to have an import fail
            continue
        module = importlib.import_module(name)
        for attribute in gone:
            if hasattr(module, attribute):
                delattr(module, attribute)


_LOADED = ("asyncio", "concurrent.futures.thread", "getpass", "multiprocessing.util", "platform", "shutil", "tempfile")


def _main(taken: str, source: str) -> None:
    _take_away(json.loads(taken))
    exec(compile(source, "the program", "exec"), vars(sys.modules["__main__"]))  # what it defines can be pickled


if __name__ == "__main__":
    _main(*sys.argv[1:])
