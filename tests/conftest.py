"""What every test gets: a store of its own, and no fault of ours passed over in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import pyjama_instrument.storage.compaction  # noqa: F401  # not first in the flusher, under pytest's import hook
from pyjama_instrument import _guard, hooks
from pyjama_instrument.recording.settings import reset_for_testing

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]

# A background job of a shell ignores some signals, and so would every child that the tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)

# Test machines are shared and slow at times: a deadline per example would measure the neighbours.
settings.register_profile("pyjama", deadline=None, print_blob=True)
settings.load_profile("pyjama")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point the process at an empty store under the test's own home; the directory does not exist yet.

    Nothing of the caller's environment that names a store or a session gets through.
    """
    for name in list(os.environ):
        if name.startswith("PYJAMA_") or name in ("TRACEPARENT", "TRACESTATE"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    store = tmp_path / "store"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYJAMA_HOME", str(store))
    reset_for_testing()
    yield store
    reset_for_testing()
    hooks.clear_hooks()
    _guard.counts.clear()
    _guard._reported.clear()  # what is reported once per process is reported once per test


@pytest.fixture(autouse=True)
def nothing_swallowed(request: pytest.FixtureRequest, own_store: Path) -> Iterator[None]:
    """Raise at the end what the guard swallowed during the test, so that no test passes on a hidden fault."""
    swallowed: list[BaseException] = []

    def collect(error: BaseException, where: str) -> None:
        error.add_note(f"swallowed in {where}")
        swallowed.append(error)

    _guard.observers.append(collect)
    yield
    reset_for_testing()  # what only closing brings to light belongs to this test as well
    _guard.observers.remove(collect)
    if swallowed and request.node.get_closest_marker("swallows") is None:
        raise BaseExceptionGroup("the guard swallowed exceptions during this test", swallowed)


@pytest.fixture
def run_python(own_store: Path, tmp_path: Path) -> RunPython:
    """Run code or a script in a child Python on the test's own store: ``run_python(source, *args, **env)``.

    A string is code, a path is a script. Warnings are errors in the child. It must end with ``returncode``
    (0 unless told, None for any) before ``timeout`` seconds are over. An ``env`` value of None unsets a variable.
    """

    def run(
        source: str | Path,
        *args: str,
        returncode: int | None = 0,
        timeout: float = 60.0,
        cwd: Path = tmp_path,
        **env: str | None,
    ) -> subprocess.CompletedProcess[str]:
        program = [str(source)] if isinstance(source, Path) else ["-c", source]
        environment = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-W", "error", *program, *args],
            env=environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if returncode is not None and done.returncode != returncode:
            raise AssertionError(f"the child ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run
