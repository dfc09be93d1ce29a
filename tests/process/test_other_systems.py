"""On Windows and WebAssembly an instrumented program runs as if it were not, and is told so once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pyjama_instrument import _platform
from pyjama_instrument.cli import COMMANDS as ALL_COMMANDS
from tests.other_systems import PYODIDE, Taken, run_without, windows

SYSTEMS = {"Windows": windows(), "WebAssembly": PYODIDE}
SAID = re.compile(r"pyjama: nothing is recorded and no hook runs: .+ needs Linux or macOS .+\n")

PROGRAM = """
import asyncio, functools, inspect, pickle, sys, threading
from concurrent.futures import ThreadPoolExecutor

import pyjama_instrument
from pyjama_instrument import *
from pyjama_instrument import hooks, redaction, shared_metrics, testing
from pyjama_instrument.errors import ConfigError

configure(home="somewhere", redact=lambda field: field.masked, error_messages=False)
configure(home=HOME, enabled=True, redact=False, error_messages=True)
seen = []

@tool
def plain(x, *, y=1):
    return x + y

@tool("named", capture=True)
def captured(path, secret):
    return {path: secret}

@tool()
async def awaited(x):
    await asyncio.sleep(0)
    return x

@tool
def generated(n):
    got = yield n
    yield got

@tool
async def streamed(n):
    for item in range(n):
        yield item

@tool
def failing():
    raise LookupError("as it is")

class Agent:
    @tool
    def method(self): return "method"
    @classmethod
    @tool
    def of_class(cls): return cls.__name__
    @tool
    @staticmethod
    def static(): return "static"
    @tool(capture=("return",))
    def __call__(self, x): return x

@agent_session("decorated", workflow=["one"], tags={"a": 1}, spec={"b": 2})
def run(x):
    return current_session().agent, plain(x)

@agent_session("async decorated")
async def arun(x):
    return await awaited(x)

seen += [plain(1), plain(1, y=2), captured("a", secret="b"), Agent().method(), Agent.of_class(), Agent.static()]
seen += [tool(Agent())(3), tool(functools.partial(plain, 1))(y=5), run(1), asyncio.run(arun(4))]
generator = generated(1)
seen += [next(generator), generator.send("sent"), inspect.signature(plain), plain.__name__]

async def stream():
    async with agent_session("streaming") as session:
        async with session.step("a step"):
            return [item async for item in streamed(3)]

seen += [asyncio.run(stream()), pickle.loads(pickle.dumps(plain))(7)]
for raises in (failing, agent_session("failing")(failing)):
    try:
        raises()
    except LookupError as error:
        seen.append(error.args)
with agent_session("researcher", workflow=["discover"]) as session:
    with session.step("discover") as same:
        seen.append((session == same, len(session.id), len(session.span), current_session() == session, plain(1)))
    session.workflow(["discover", "report"])
    session.annotate(tokens=1, nested={"a": [1]})
    session.fail("a reason"), session.fail(ValueError()), session.cancel()
    seen.append(sorted(name for name in session.env({}) if name != "PYJAMA_HOME"))
    seen.append(session.bind(plain)(2))
    with ThreadPoolExecutor(2) as pool:
        seen.append(list(pool.map(session.bind(plain), range(3))))
seen.append(current_session())

hooks.register_hook("plain", lambda call: None)
hooks.register_pre_hook("*", lambda call: None)
seen += [hooks.registered(), plain(1), hooks.unregister_hook("plain")]
hooks.clear_hooks()

shared_metrics.record_agent_start("a", {"model": "m"})
shared_metrics.record_workflow_info("a", ["s"])
shared_metrics.record_step_start("a", "s")
shared_metrics.record_tool_execution(tool_name="t", agent_id="a", status="ok", duration_ms=1.5)
shared_metrics.record_step_complete("a", "s")
shared_metrics.record_agent_activity(agent_id="a", status="thinking")
shared_metrics.record_agent_complete("a")
shared_metrics.shared_metrics_hook({"tool_name": "t", "ctx": {"id": "a"}, "duration_ms": 1})
shared_metrics.clear_metrics()
seen.append(flush())

with testing.isolated_store(HOME, clock=testing.FakeClock(), ids=testing.SequentialIds()) as store:
    with agent_session("tested") as session:
        seen.append((session.id, plain(3), store.home == HOME))
for wrong in (lambda: tool(3), lambda: agent_session(""), lambda: configure(enabled="yes"), lambda: flush(-1)):
    try:
        wrong()
    except ConfigError as error:
        seen.append(str(error))
print(*seen, sep="\\n")
"""


def program(source: str, home: Path) -> str:
    return f"HOME = {str(home)!r}\n{source}"


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS.keys())
def taken(request: pytest.FixtureRequest) -> Taken:
    return request.param  # type: ignore[no-any-return]  # pytest gives Any


def test_a_program_that_uses_everything_does_the_same_there_and_is_told_once(taken: Taken, own_store: Path) -> None:
    source = program(PROGRAM, own_store)
    there, here = run_without(taken, source), run_without({}, source)
    assert (here.returncode, here.stderr) == (0, "")
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout
    assert SAID.fullmatch(there.stderr), there.stderr


def test_nothing_is_left_on_the_disk_there(taken: Taken, own_store: Path) -> None:
    run_without(taken, program(PROGRAM, own_store))
    assert not own_store.exists()
    assert os.listdir(os.environ["HOME"]) == []


QUIET = """
from pyjama_instrument import agent_session, configure, current_session, tool
from pyjama_instrument import errors, export, hooks, reader, redaction, shared_metrics, testing, viewer

@tool(capture=True)
def double(x):
    return 2 * x

session = agent_session("an agent")
"""


def test_importing_and_decorating_say_nothing_there_and_the_first_use_does(taken: Taken) -> None:
    assert run_without(taken, QUIET).stderr == ""
    assert SAID.fullmatch(run_without(taken, QUIET + "double(1); double(2)").stderr)
    assert SAID.fullmatch(run_without(taken, QUIET + "with session: pass").stderr)


@pytest.mark.parametrize("off", [{}, {"PYJAMA_DISABLED": "1"}], ids=["by configure", "by the environment"])
def test_who_has_switched_recording_off_is_told_nothing_there(taken: Taken, off: dict[str, str]) -> None:
    configured = "" if off else "configure(enabled=False)\n"
    done = run_without(taken, QUIET + configured + "double(1)\nwith session: double(2)", **off)
    assert (done.returncode, done.stderr) == (0, "")


NEEDED = [
    *({name: None} for name in ("fcntl", "pwd", "resource")),
    *({"os": [name]} for name in (*_platform._CALLS, *_platform._FLAGS)),
]


@pytest.mark.parametrize("lacking", NEEDED, ids=str)
def test_a_system_that_lacks_one_of_the_things_that_are_needed_records_nothing(lacking: Taken, own_store: Path) -> None:
    done = run_without(lacking, QUIET + "with session: print(double(4), session._active[0].session.env()['HOME'])")
    assert (done.returncode, done.stdout) == (0, f"8 {os.environ['HOME']}\n")
    assert SAID.fullmatch(done.stderr), done.stderr
    assert not own_store.exists()


def test_a_system_that_lacks_what_recording_does_not_need_records(own_store: Path) -> None:
    lacking: Taken = {
        **dict.fromkeys(("grp", "pty", "readline", "syslog", "termios", "tty"), None),
        "mmap": ["MAP_PRIVATE"],
        "os": ["statvfs", "killpg", "posix_spawnp"],
        "signal": ["SIGHUP", "pthread_sigmask"],
    }
    done = run_without(lacking, QUIET + "with session: double(4)\nprint(reader.read_metrics()['tools'])")
    assert (done.returncode, done.stderr) == (0, "")
    assert "'double': {'count': 1," in done.stdout


READING = (
    "reader.get_dashboard_data()",
    "reader.Reader(HOME)",
    "reader.load_session('0' * 32)",
    "reader.read_metrics(HOME)",
    "list(reader.tail_events())",
    "shared_metrics.get_dashboard_data()",
    "shared_metrics.read_metrics()",
    "export.export(io.BytesIO())",
    "viewer.start_dashboard(0)",
    "testing.TestStore(HOME).events()",
)


def test_whatever_reads_says_there_which_systems_it_needs(taken: Taken, own_store: Path) -> None:
    source = f"""{QUIET}
import io
for reading in {READING}:
    try:
        eval(reading)
    except errors.UnsupportedSystem as error:
        print(error)
"""
    done = run_without(taken, program(source, own_store))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"(pyjama_instrument needs Linux or macOS .+\n){{{len(READING)}}}", done.stdout)


COMMANDS = (
    "status",
    "top",
    "show x",
    "tail",
    "export",
    "clear --yes",
    "doctor",
    "run --agent a -- true",
    "demo",
    "dashboard",
)


def test_each_command_says_there_in_one_line_which_systems_it_needs_and_ends_with_2(taken: Taken) -> None:
    source = "from pyjama_instrument.cli import main\n"
    done = run_without(taken, source + f"print([main(line.split()) for line in {COMMANDS}])")
    assert (done.returncode, done.stdout) == (0, f"{[2] * len(COMMANDS)}\n")
    assert re.fullmatch(rf"(pyjama: pyjama_instrument needs Linux or macOS .+\n){{{len(COMMANDS)}}}", done.stderr)


def test_the_commands_tried_are_all_but_completion() -> None:
    assert {line.split()[0] for line in COMMANDS} == {*ALL_COMMANDS} - {"completion"}


@pytest.mark.parametrize("command", ["--help", "--version", "status --help", "completion bash"])
def test_help_version_and_completion_work_there(taken: Taken, command: str) -> None:
    source = f"from pyjama_instrument.cli import main\nsys.exit(main({command.split()}))"
    done = run_without(taken, source)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_what_is_taken_away_is_what_windows_lacks() -> None:
    absent = windows()
    modules = {name for name, names in absent.items() if names is None}
    assert modules >= {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
    assert modules.isdisjoint({"asyncio", "mmap", "os", "select", "signal", "socket", "subprocess", "threading"})
    lost = set(absent["os"] or ())
    assert lost >= {*_platform._CALLS, *_platform._FLAGS} - {"fchmod"}  # which is there since Python 3.13
    assert lost >= {"statvfs", "killpg", "posix_spawnp", "WNOHANG", "uname"}
    assert lost.isdisjoint(
        {"O_CREAT", "O_APPEND", "fsync", "getpid", "kill", "link", "open", "rename", "stat", "utime"}
    )
    assert "tzset" in (absent["time"] or ())
    assert {"SIGHUP", "SIGCHLD", "pthread_sigmask"} <= set(absent["signal"] or ())
    assert {"MAP_PRIVATE", "MAP_ANONYMOUS"} <= set(absent["mmap"] or ())
