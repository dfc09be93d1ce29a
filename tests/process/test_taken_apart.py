"""Libraries that take functions apart: whatever they build from a decorated function still records its calls."""

from __future__ import annotations

import pickletools
import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument.reader import get_dashboard_data, load_session, read_metrics
from tests.process.children import HANG_SECONDS

_DEFINITIONS = """
import asyncio, functools
from pyjama_instrument import agent_session, flush, tool

offset = 10

def made(step):
    @tool("closure")
    def closure(x): return x + offset + step
    return closure

closure = made(1)

@tool
def plain(x): return x + offset

@tool
async def later(x): return x + offset

@tool
def items(x):
    yield x + offset

@tool
async def items_later(x):
    yield x + offset

@tool(capture=True)
def captured(x): return x + offset

@tool(control_flow=("builtins.KeyError",))
def steered(x): return x + offset

class Box:
    @tool
    def method(self, x): return x + offset
    @tool
    @staticmethod
    def static(x): return x + offset
    @classmethod
    @tool
    def of_class(cls, x): return x + offset

@agent_session("nightly")
def nightly(x): return plain(x)

@tool("outer")
@tool("inner")
def twice(x): return x + offset

def undecorated(x): return x + offset
renamed = tool("renamed")(undecorated)
rebound = tool("rebound")(functools.partial(undecorated))
anonymous = tool("anonymous")(lambda x: x + offset)
"""

_CALLS = {
    "plain": "plain",
    "closure": "closure",
    "later": "later",
    "items": "items",
    "items_later": "items_later",
    "captured": "captured",
    "steered": "steered",
    "Box().method": "Box.method",
    "Box.static": "Box.static",
    "Box.of_class": "Box.of_class",
    "nightly": "plain",
    "twice": "outer",
    "renamed": "renamed",
    "rebound": "rebound",
    "anonymous": "anonymous",
    "bound": "plain",
}

_SEND = f"""{_DEFINITIONS}
import cloudpickle, sys
with agent_session("sender") as run:
    bound = run.bind(plain)
    sys.stdout.buffer.write(cloudpickle.dumps(eval(sys.argv[1])))
"""

_RECEIVE = """
import asyncio, inspect, pickle, sys
function = pickle.load(sys.stdin.buffer)
result = function(5)
if inspect.iscoroutinefunction(function):
    result = asyncio.run(result)
elif inspect.isgeneratorfunction(function):
    result, = result
elif inspect.isasyncgenfunction(function):
    async def first():
        return [item async for item in result][0]
    result = asyncio.run(first())
print(result)
"""


def _python(source: str, *args: str, **options: object) -> bytes:
    command = [sys.executable, "-W", "error", "-c", source, *args]
    done = subprocess.run(command, check=False, capture_output=True, timeout=HANG_SECONDS, **options)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    return done.stdout  # type: ignore[no-any-return]  # the options leave it open


def _counts() -> dict[str, int]:
    return {name: tool["count"] for name, tool in read_metrics()["tools"].items()}


@pytest.mark.parametrize("function", _CALLS)
def test_a_function_pickled_by_value_records_where_it_is_unpickled(function: str, own_store: Path) -> None:
    pickled = _python(_SEND, function)
    result = int(_python(_RECEIVE, input=pickled))
    assert result == (16 if function == "closure" else 15)
    counts = _counts()
    assert counts.pop("inner", 1) == 1
    assert counts == {_CALLS[function]: 1}


@pytest.mark.parametrize("function", _CALLS)
def test_a_function_pickled_by_value_carries_nothing_of_the_recorder(function: str) -> None:
    pickled = _python(_SEND, function)
    strings = [value for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)]
    ours = {value for value in strings if value.startswith("pyjama_instrument") and "/" not in value}
    names_of_code = {
        value for value in ours if value.startswith("pyjama_instrument.recording.")
    }  # __module__ of an inner body
    assert ours - names_of_code <= {"pyjama_instrument.unpickle", "pyjama_instrument"}
    assert not {"mmap", "_thread", "ContextVar", "Token"}.intersection(strings)


_USES_US = """
import cloudpickle, sys
from pyjama_instrument import Session, agent_session, configure, current_session, flush, tool

def work(n):
    configure(enabled=True)
    with agent_session("traveller") as run:
        assert isinstance(run, Session) and current_session() == run
        result = tool(lambda n: n + 1)(n)
    assert flush()
    return result

sys.stdout.buffer.write(cloudpickle.dumps(work))
"""


def test_a_function_pickled_by_value_may_use_this_package(own_store: Path) -> None:
    pickled = _python(_USES_US)
    names = {value for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)}
    assert {name for name in names if name.startswith("pyjama_instrument")} == {"pyjama_instrument"}
    assert int(_python(_RECEIVE, input=pickled)) == 6
    assert load_session(get_dashboard_data().agents["traveller"].session or "").session.calls == 1


@pytest.mark.parametrize(
    ("module", "names"),
    [("session", "Session agent_session current_session"), ("recorder", "configure flush"), ("instrument", "tool")],
)
def test_the_modules_that_pickles_of_version_0_1_0_name_are_still_there(module: str, names: str) -> None:
    _python(f"from pyjama_instrument.{module} import {', '.join(names.split())}")


def test_a_tool_that_is_sent_again_and_again_announces_its_first_call_only(own_store: Path) -> None:
    source = f"""{_DEFINITIONS}
import cloudpickle, pickle
for _ in range(20):
    pickle.loads(cloudpickle.dumps(plain))(1)
"""
    _python(source)
    lines = b"".join(path.read_bytes() for path in (own_store / "journal").iterdir())
    assert lines.count(b'"tool.ended"') == 20
    assert lines.count(b'"tool.started"') == 1


def test_joblib_s_processes_record(own_store: Path, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(f"""{_DEFINITIONS}
import joblib
if __name__ == "__main__":
    with agent_session("a") as run:
        results = joblib.Parallel(n_jobs=2)(joblib.delayed(run.bind(plain))(n) for n in range(20))
        results += joblib.Parallel(n_jobs=2)(joblib.delayed(closure)(n) for n in range(20))
    assert results == [n + 10 for n in range(20)] + [n + 11 for n in range(20)]
""")
    _run_script(script)
    assert _counts() == {"plain": 20, "closure": 20}


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_s_threads_and_processes_record(scheduler: str, own_store: Path, tmp_path: Path) -> None:
    script = tmp_path / "graph.py"
    script.write_text(f"""{_DEFINITIONS}
import dask
if __name__ == "__main__":
    delayed = [dask.delayed(plain)(n) for n in range(10)] + [dask.delayed(Box.static)(n) for n in range(10)]
    results = dask.compute(*delayed, scheduler={scheduler!r}, num_workers=2)
    assert results == tuple(n + 10 for n in range(10)) * 2
""")
    _run_script(script)
    assert _counts() == {"plain": 10, "Box.static": 10}


def test_fastmcp_s_tools_prompts_and_resources_record(own_store: Path, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text("""
import asyncio
from fastmcp import Client, FastMCP
from pyjama_instrument import tool

server = FastMCP("server")

@server.tool
@tool
def add(a: int, b: int = 2) -> int:
    "Add."
    return a + b

@server.tool
@tool
async def add_later(a: int, b: int = 2) -> int:
    return a + b

@server.prompt
@tool
def greet(name: str) -> str:
    return f"Hello {name}"

@server.prompt
@tool
async def greet_later(name: str, times: int = 1) -> str:
    return f"Hello {name}" * times

@server.resource("data://{name}")
@tool
def data(name: str) -> str:
    return name

async def main():
    async with Client(server) as client:
        assert (await client.call_tool("add", {"a": 1})).data == 3
        assert (await client.call_tool("add_later", {"a": 1, "b": 5})).data == 6
        greeting = await client.get_prompt("greet", {"name": "x"})
        assert greeting.messages[0].content.text == "Hello x"
        greeting = await client.get_prompt("greet_later", {"name": "y", "times": "2"})
        assert greeting.messages[0].content.text == "Hello yHello y"
        assert (await client.read_resource("data://q"))[0].text == "q"

asyncio.run(main())
""")
    _run_script(script)
    assert _counts() == {"add": 1, "add_later": 1, "greet": 1, "greet_later": 1, "data": 1}


def _run_script(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script)], check=False, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "pyjama" not in done.stderr
