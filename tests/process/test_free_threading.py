"""Sixteen threads at once: every call counts once, also where Python has no global lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from pyjama_instrument.reader import get_dashboard_data
from tests.scale import full

ROOT = Path(__file__).resolve().parents[2]
THREADS = 16
CALLS = full(1500, 200)

PROGRAM = f"""
import json, sys, threading
from pyjama_instrument import agent_session, flush, hooks, tool

@tool
def plain(x): return x

@tool(capture=True)
def captured(x): return x

@tool
def failing(): raise LookupError

@tool
def generated(n): yield from range(n)

@tool
async def awaited(x): return x

@tool
def hooked(x): return x

told = []
hooks.register_hook("hooked", lambda call: told.append(call.result))
gate = threading.Barrier({THREADS})
wrong = []

def work(number):
    gate.wait()
    with agent_session(f"agent-{{number % 4}}") as run:
        for n in range({CALLS}):
            with run.step("a step"):
                pass
            try:
                failing()
            except LookupError:
                pass
            coroutine = awaited(n)
            try:
                coroutine.send(None)
            except StopIteration as stop:
                wrong.extend([] if stop.value == n else [stop.value])
            answers = plain(n), captured(n), hooked(n), sum(generated(3))
            wrong.extend([] if answers == (n, n, n, 3) else [answers])

threads = [threading.Thread(target=work, args=(number,)) for number in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
free = not getattr(sys, "_is_gil_enabled", lambda: True)()
print(json.dumps({{"wrong": wrong, "told": len(told), "flushed": flush(60), "free": free}}))
"""


def _free_threaded() -> str | None:
    """A free-threaded Python on the PATH that has what the package needs."""
    check = "import filelock, pydantic, wrapt, sys; sys.exit(sys._is_gil_enabled())"
    for version in ("3.15t", "3.14t", "3.13t"):
        python = shutil.which(f"python{version}")
        if python and subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return python
    return None


@pytest.mark.parametrize("free", [False, True], ids=["this Python", "a free-threaded Python"])
def test_sixteen_threads_count_every_call_once(free: bool) -> None:
    python = cache(_free_threaded)() if free else sys.executable
    if python is None:
        pytest.skip("no free-threaded Python with this package's dependencies on the PATH")
    done = subprocess.run(
        [python, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    each = THREADS * CALLS
    assert said["wrong"] == []
    assert (said["told"], said["flushed"]) == (each, True)
    assert said["free"] or not free
    data = get_dashboard_data()
    tools = data.metrics.tools
    assert {name: (tool.count, tool.error) for name, tool in tools.items()} == {
        name: (each, each if name == "failing" else 0)
        for name in ("plain", "captured", "failing", "generated", "awaited", "hooked")
    }
    assert sum(session.calls for session in data.sessions.values()) == 6 * each
    assert [agent.runs.completed for agent in data.agents.values()] == [THREADS // 4] * 4
    assert (data.health.torn, data.health.dropped) == (0, {})
