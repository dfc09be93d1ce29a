"""Children that measure: processes of some environment, asked and answering in JSON lines.

The parent's half is :class:`Child`; the half that runs in the child is ``children/_serve.py``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Child", "ChildFailed"]

_ROOT = Path(__file__).resolve().parent.parent
_ANSWER_SECONDS = 180.0


class ChildFailed(Exception):
    """A child died, raised or did not answer in time; the message is one line for the report."""


class Child:
    """A running child. Use it as a context manager: it is gone after the block, whatever happened."""

    def __init__(
        self,
        python: str,
        module: str,
        *arguments: str,
        log: Path,
        cpu: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        variables = {name: value for name, value in os.environ.items() if not _misleading(name)}
        variables |= {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", **(environment or {})}
        if cpu is not None:
            variables["BENCH_CPU"] = str(cpu)
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [python, "-m", f"benchmarks.children.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=variables,
                cwd=_ROOT,
                bufsize=0,
            )
        self._unread = b""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, do: str, **arguments: Any) -> None:
        """Ask for something without waiting for the answer.

        Raises:
            ChildFailed: the child is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except OSError as error:
            raise ChildFailed(self._last_words()) from error

    def receive(self, timeout: float = _ANSWER_SECONDS) -> Any:
        """The next answer.

        Raises:
            ChildFailed: there is none within ``timeout`` seconds, or it says that something was raised.
        """
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ChildFailed(f"no answer within {timeout:.0f} s")
            data = os.read(fd, 1 << 16)
            if not data:
                raise ChildFailed(self._last_words())
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "raised" in answer:
            raise ChildFailed(answer["raised"])
        return answer["value"]

    def ask(self, do: str, timeout: float = _ANSWER_SECONDS, **arguments: Any) -> Any:
        """Send and receive."""
        self.send(do, **arguments)
        return self.receive(timeout)

    def ask_alone(self, do: str, timeout: float = _ANSWER_SECONDS, **arguments: Any) -> Any:
        """As :meth:`ask`, after which the child is halted, background threads included, until it is asked again."""
        self._process.send_signal(signal.SIGCONT)
        answer = self.ask(do, timeout, **arguments)
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def wait(self, timeout: float = _ANSWER_SECONDS) -> int:
        """The exit code, once it has ended by itself; negative for a signal.

        Raises:
            ChildFailed: it has not ended within ``timeout`` seconds.
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ChildFailed(f"still running after {timeout:.0f} s") from error

    def stop(self, timeout: float = 20.0) -> None:
        """Let it end by itself, as programs do; kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _last_words(self) -> str:
        code = self._process.wait()
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return f"ended with {code}: {lines[-1][:200] if lines else 'nothing said'}"


def _misleading(name: str) -> bool:
    """Settings of the caller's that would change what is measured."""
    return name.lower().endswith("_proxy") or name.startswith(("PYJAMA_", "OTEL_", "PROMETHEUS_", "TRACEPARENT"))
