"""The child's half of the conversation: answers one JSON line for each that it is asked."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

__all__ = ["only_loopback", "serve", "stay_on_cpu"]

_PR_SET_PDEATHSIG = 1


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until there are no more questions. What the measured code prints goes to stderr instead."""
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        try:
            answer = {"value": handlers[question.pop("do")](**question)}
        except Exception as error:
            text = " ".join(str(error).split())
            answer = {"raised": f"{type(error).__name__}: {text}"[:200]}
        answers.write(json.dumps(answer).encode() + b"\n")


def _die_with_parent() -> None:
    """A halted child could not notice otherwise that nobody will ever ask it again."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stay_on_cpu() -> None:
    """Pin this process to the CPU that the parent chose, if it chose one."""
    if cpu := os.environ.get("BENCH_CPU"):
        os.sched_setaffinity(0, {int(cpu)})


def only_loopback() -> None:
    """Refuse every connection that would leave this machine, name look-ups included.

    Not an audit hook: that would be called for each frame that a logging library looks at, and slow it down.
    """
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            _check(address[0])
        connect(self, address)

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        _check(host)
        return look_up(host, *arguments, **options)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign,assignment]  # that is the point
    socket.getaddrinfo = guarded_look_up


def _check(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    try:
        local = name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ConnectionRefusedError(f"the benchmark talks to this machine only, not to {name}")
