"""A decorated function recurses as deep as below any decorator, and a recursion without end is no fault of ours."""

from __future__ import annotations

import pytest

from pyjama_instrument.reader import get_dashboard_data
from tests.conftest import RunPython

_FORMS = {
    "plain": "@tool\ndef walk(n): return 0 if n == 0 else 1 + walk(n - 1)",
    "keyword": "@tool\ndef walk(n): return 0 if n == 0 else 1 + walk(n=n - 1)",
    "closure": """
def make():
    @tool
    def walk(n): return 0 if n == 0 else 1 + walk(n - 1)
    return walk
walk = make()
""",
    "method": """
class Walker:
    @tool
    def walk(self, n): return 0 if n == 0 else 1 + self.walk(n - 1)
walk = Walker().walk
""",
    "static method": """
class Walker:
    @tool
    @staticmethod
    def walk(n): return 0 if n == 0 else 1 + Walker.walk(n - 1)
walk = Walker.walk
""",
    "class method": """
class Walker:
    @classmethod
    @tool
    def walk(cls, n): return 0 if n == 0 else 1 + cls.walk(n - 1)
walk = Walker.walk
""",
    "capture": "@tool(capture=True)\ndef walk(n): return 0 if n == 0 else 1 + walk(n - 1)",
    "session": "@agent_session('walker')\ndef walk(n): return 0 if n == 0 else 1 + walk(n - 1)",
    "hooks": """
from pyjama_instrument import hooks
hooks.register_pre_hook("walk", lambda call: None)
@tool
def walk(n): return 0 if n == 0 else 1 + walk(n - 1)
""",
    "by hand": "def walk(n): return 0 if n == 0 else 1 + walk(n - 1)\nwalk = tool(walk)",
}
_ONE_FRAME_MORE = 495  # of a limit of 1000, as below functools.wraps
_TWO_FRAMES_MORE = 330
_IMPORTS = "import sys, threading\nfrom pyjama_instrument import agent_session, flush, tool\n"


@pytest.mark.parametrize("form", _FORMS)
def test_the_limit_is_reached_as_late_as_below_any_decorator(form: str, run_python: RunPython) -> None:
    depth = _TWO_FRAMES_MORE if form in ("hooks", "by hand") else _ONE_FRAME_MORE
    done = run_python(f"{_IMPORTS}{_FORMS[form]}\nassert sys.getrecursionlimit() == 1000\nprint(walk({depth}))")
    assert (int(done.stdout), done.stderr) == (depth, "")


# Below functools.wraps, too, Python 3.11 has no stack for keyword arguments at this depth.
@pytest.mark.parametrize("form", sorted(_FORMS.keys() - {"keyword", "by hand"}))
def test_a_raised_limit_is_used_and_a_small_stack_is_enough(form: str, run_python: RunPython) -> None:
    source = f"""{_IMPORTS}{_FORMS[form]}
threading.stack_size(256 * 1024)
thread = threading.Thread(target=lambda: print(walk(300)))
thread.start()
thread.join()
sys.setrecursionlimit(100_000)
print(walk(20_000))
"""
    done = run_python(source)
    assert (done.stdout.split(), done.stderr) == (["300", "20000"], "")


_ENDLESS = {
    "plain": "@tool\ndef work(n): entered.append(n); return work(n + 1)",
    "capture": "@tool(capture=True)\ndef work(n): entered.append(n); return work(n + 1)",
    "async": """
@tool
async def go_on(n): entered.append(n); return await go_on(n + 1)
def work(n): return asyncio.run(go_on(n))
""",
    "generator": """
@tool
def items(n):
    entered.append(n)
    yield from items(n + 1)
def work(n): return list(items(n))
""",
    "session": "@agent_session('work')\ndef work(n): entered.append(n); return work(n + 1)",
    "leaf": """
@tool
def leaf(n): entered.append(n)
def work(n): leaf(n); return work(n + 1)
""",
    "step": """
def work(n):
    with run.step("step"):
        return work(n + 1)
""",
}


@pytest.mark.parametrize("form", _ENDLESS)
def test_a_recursion_without_end_is_recorded_and_said_nothing_of(form: str, run_python: RunPython) -> None:
    source = f"""import asyncio, gc
{_IMPORTS}
gc.disable()  # whatever finalizer it runs where the stack is full fails, and Python says so
entered = []
{_ENDLESS[form]}
with agent_session("top") as run:
    for _ in range(3):
        try:
            work(0)
        except RecursionError:
            pass
from pyjama_instrument.recording.recorder import recorder
assert flush()
print(len(entered), len(recorder.in_flight), len(recorder.announced), len(recorder.sessions.open))
"""
    done = run_python(source)
    entered, *left = map(int, done.stdout.split())
    assert (left, done.stderr) == ([0, 0, 0], "")
    data = get_dashboard_data()
    counted = sum(tool.count for tool in data.metrics.tools.values())
    if form not in ("session", "step"):
        assert entered <= counted <= entered + 3  # each time, the last may not have had room for its first line
    agents = {session.agent_id for session in data.sessions.values()}
    assert agents <= {"top", "work"}
