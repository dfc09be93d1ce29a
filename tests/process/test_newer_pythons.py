"""What the newest Pythons do differently: annotations that are evaluated late, imports that are, and forkservers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument.reader import get_dashboard_data

LATE_ANNOTATIONS = """
import annotationlib, asyncio, inspect
from pyjama_instrument import agent_session, tool

def undecorated(x: Later, *, y: "Later" = None) -> Later: return x

decorated = [
    tool(undecorated),
    tool("captured", capture=True)(undecorated),
    tool("partly", capture=("x", "return"))(undecorated),
    agent_session("an agent")(undecorated),
    tool("method")(undecorated.__get__(1)),
]
for form in (annotationlib.Format.FORWARDREF, annotationlib.Format.STRING):
    expected = str(inspect.signature(undecorated, annotation_format=form))
    for function in decorated[:4]:
        assert str(inspect.signature(function, annotation_format=form)) == expected

class Later: pass

for function in decorated[:4]:
    assert function.__annotations__ == {"x": Later, "y": "Later", "return": Later}
    assert inspect.signature(function) == inspect.signature(undecorated)
    assert function(1) == 1
assert decorated[4]() == 1
"""


def run(source: str, *options: str) -> None:
    command = [sys.executable, "-W", "error", *options, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def counts() -> dict[str, int]:
    return {name: tool.count for name, tool in get_dashboard_data().metrics.tools.items()}


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
def test_annotations_may_name_what_is_defined_later() -> None:
    run(LATE_ANNOTATIONS)
    assert counts() == {"undecorated": 1, "captured": 1, "partly": 1, "method": 1}


LAZY = """
import os, sys
{imports}
loaded = [name for name in sys.modules if name.startswith("pyjama_instrument")]
assert loaded == [], loaded

@tool
def double(x):
    return 2 * x

with agent_session("lazy"):
    assert double(2) == 4
if (child := os.fork()) == 0:
    assert double(3) == 6
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert reader.read_metrics()["tools"]["double"]["count"] == 2
"""

IMPORTS = """
{0}from pyjama_instrument import agent_session, tool
{0}from pyjama_instrument import reader
"""


@pytest.mark.skipif(sys.version_info < (3, 15), reason="there are no lazy imports")
@pytest.mark.parametrize("everything", [True, False], ids=["all imports", "ours"])
def test_a_lazy_import_records_as_any_other(everything: bool) -> None:
    options = ("-X", "lazy_imports=all") if everything else ()
    run(LAZY.format(imports=IMPORTS.format("" if everything else "lazy ")), *options)
    assert counts() == {"double": 2}


DEFAULT = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pyjama_instrument import agent_session, tool

@tool
def square(x):
    return x * x

if __name__ == "__main__":
    with agent_session("parent") as run:
        with multiprocessing.Pool(2) as pool:
            assert pool.map(run.bind(square), range(3)) == [0, 1, 4]
        with ProcessPoolExecutor(2) as pool:
            assert list(pool.map(run.bind(square), range(3))) == [0, 1, 4]
"""


def test_workers_of_the_default_start_method_are_recorded(tmp_path: Path) -> None:
    script = tmp_path / "pools.py"
    script.write_text(DEFAULT)
    # Where the default is to fork, a Pool has threads of its own meanwhile, and Python says so.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *warnings, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert counts() == {"square": 6}
    data = get_dashboard_data()
    assert [(session.agent_id, session.status) for session in data.sessions.values()] == [("parent", "completed")]
