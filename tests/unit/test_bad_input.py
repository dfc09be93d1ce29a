"""Bad input: our own calls refuse it with a PyjamaError that says what to do; the user's functions never notice."""

from __future__ import annotations

import asyncio
import functools
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from pyjama_instrument import PyjamaError, Session, agent_session, configure, flush, hooks, reader, tool
from pyjama_instrument import shared_metrics as shared
from pyjama_instrument.config import resolve_home
from pyjama_instrument.errors import ConfigError, SessionNotFound, StoreUnavailable
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.settings import reset_for_testing
from tests.conftest import RunPython
from tests.unit.recorded import calls, drained, remove_tree, session_end, sessions


class _Unshowable:
    """Nothing about it can be shown, compared or tested."""

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError("it was disturbed")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __format__ = _raise  # type: ignore[assignment]
    __hash__ = object.__hash__


class _BrokenMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> NoReturn:
        raise RuntimeError("no items")

    def __iter__(self) -> NoReturn:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        return 1


class _Class:
    pass


class _WithoutSignature:
    __signature__ = 5

    def __call__(self) -> None: ...


async def _coroutine_function(*_: object) -> None: ...


def _generator_function(*_: object) -> Iterator[None]:
    yield


BAD_NAMES: dict[str, Any] = {
    "empty": "",
    "blank": " \t\n",
    "long": "x" * 257,
    "1 MB": "x" * 1_000_000,
    "None": None,
    "int": 5,
    "bytes": b"name",
    "list": ["name"],
    "unshowable": _Unshowable(),
}
NOT_STRINGS = {what: value for what, value in BAD_NAMES.items() if not isinstance(value, str)}
BAD_STEPS: dict[str, Any] = {
    "text": "step",
    "int": 5,
    "set": {"step"},
    "generator": (step for step in ["step"]),
    "int in it": [5],
    "blank in it": ["x", ""],
    "None in it": [None],
    "unshowable": _Unshowable(),
}
BAD_MAPPINGS: dict[str, Any] = {"list": [("k", "v")], "text": "k", "int": 5, "unshowable": _Unshowable()}
BAD_HOMES: dict[str, Any] = {
    "empty": "",
    "blank": "  ",
    "int": 5,
    "bytes": b"/tmp/x",
    "NUL": "a\0b",
    "list": ["/tmp"],
    "unshowable": _Unshowable(),
}
BAD_STATUSES: dict[str, Any] = {
    "unknown": "finished",
    "empty": "",
    "None": None,
    "int": 5,
    "list": ["ok"],
    "1 MB": "x" * 1_000_000,
    "unshowable": _Unshowable(),
}
BAD_DURATIONS: dict[str, Any] = {
    "negative": -1,
    "nan": float("nan"),
    "infinite": float("inf"),
    "huge": 10**5000,
    "text": "5",
    "bool": True,
    "None": None,
    "unshowable": _Unshowable(),
}
BAD_TIMEOUTS: dict[str, Any] = {
    "negative": -1,
    "nan": float("nan"),
    "text": "5",
    "bool": True,
    "None": None,
}
BAD_CAPTURES: dict[str, Any] = {
    "text": "x",
    "int": 5,
    "None": None,
    "ints": (1, 2),
    "unknown parameter": ("y",),
    "set": {"x"},
    "function": len,
    "unshowable": _Unshowable(),
}
NOT_FUNCTIONS: dict[str, Any] = {
    "int": 5,
    "list": [],
    "property": property(lambda self: 5),
    "partial method": functools.partialmethod(len),
    "class": _Class,
    "builtin class": dict,
    "unshowable": _Unshowable(),
}
NOT_HOOKS: dict[str, Any] = {
    "None": None,
    "text": "hook",
    "coroutine function": _coroutine_function,
    "generator function": _generator_function,
    "async mock": mock.AsyncMock(),
    "unshowable": _Unshowable(),
}


def _in_session(use: Callable[[Session], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with agent_session("host") as session:
            return use(session)

    return run


def _table() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every public call with every kind of wrong argument."""

    def each(call: str, values: Mapping[str, Any], use: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
        for what, value in values.items():
            yield f"{call}: {what}", functools.partial(use, value)

    tool_names = {what: value for what, value in BAD_NAMES.items() if what != "None"}  # None is: by default
    yield from each("tool(name)", {k: v for k, v in tool_names.items() if isinstance(v, str)}, tool)
    yield from each("tool(name=)", tool_names, lambda name: tool(name=name))
    yield from each("tool(function)", NOT_FUNCTIONS, tool)
    yield from each("tool()(function)", NOT_FUNCTIONS, tool())
    yield from each("tool(capture=)", BAD_CAPTURES, lambda capture: tool(capture=capture)(lambda x: x))
    yield "tool: name twice", lambda: tool("a", name="b")
    yield "tool: same name twice", lambda: tool("a", name="a")
    yield "tool: no signature", lambda: tool(capture=True)(_WithoutSignature())

    yield from each("agent_session(name)", BAD_NAMES, agent_session)
    yield from each("agent_session(workflow=)", BAD_STEPS, lambda steps: agent_session("a", workflow=steps))
    yield from each("agent_session(tags=)", BAD_MAPPINGS, lambda tags: agent_session("a", tags=tags))
    yield from each("agent_session(spec=)", BAD_MAPPINGS, lambda spec: agent_session("a", spec=spec))
    yield from each("agent_session()(function)", NOT_FUNCTIONS, agent_session("a"))
    yield from each("step", BAD_NAMES, lambda name: _in_session(lambda run: run.step(name))())
    yield from each("workflow", BAD_STEPS, lambda steps: _in_session(lambda run: run.workflow(steps))())
    yield from each("fail", NOT_STRINGS, lambda error: _in_session(lambda run: run.fail(error))())
    yield from each("env", BAD_MAPPINGS, lambda base: _in_session(lambda run: run.env(base))())
    yield from each("bind", {"None": None, "int": 5}, lambda function: _in_session(lambda run: run.bind(function))())

    yield from each("configure(home=)", BAD_HOMES, lambda home: configure(home=home))
    yield from each(
        "configure(enabled=)",
        {"int": 1, "text": "yes", "unshowable": _Unshowable()},
        lambda enabled: configure(enabled=enabled),
    )
    yield from each("configure(error_messages=)", {"int": 1, "text": "yes"}, lambda on: configure(error_messages=on))
    yield from each(
        "configure(redact=)",
        {"True": True, "text": "yes", "coroutine function": _coroutine_function, "generator": _generator_function},
        lambda redact: configure(redact=redact),
    )
    yield from each("flush", BAD_TIMEOUTS, flush)

    for register in (hooks.register_hook, hooks.register_pre_hook):
        yield from each(f"{register.__name__}(tool)", BAD_NAMES, lambda name, register=register: register(name, print))
        yield from each(f"{register.__name__}(hook)", NOT_HOOKS, functools.partial(register, "t"))
    for look_up in (hooks.get_hooks, hooks.get_pre_hooks, hooks.unregister_hook, hooks.unregister_pre_hook):
        yield from each(look_up.__name__, NOT_STRINGS, look_up)
    yield from each("clear_hooks", {k: v for k, v in NOT_STRINGS.items() if v is not None}, hooks.clear_hooks)

    yield from each("record_agent_start(agent)", BAD_NAMES, shared.record_agent_start)
    yield from each("record_agent_start(spec)", BAD_MAPPINGS, lambda spec: shared.record_agent_start("a", spec))
    yield from each(
        "record_agent_activity(agent)", BAD_NAMES, lambda name: shared.record_agent_activity(agent_id=name, status="ok")
    )
    yield from each(
        "record_agent_activity(tool)",
        tool_names,
        lambda name: shared.record_agent_activity(agent_id="a", tool_name=name, status="ok"),
    )
    yield from each(
        "record_agent_activity(status)",
        BAD_NAMES,
        lambda status: shared.record_agent_activity(agent_id="a", status=status),
    )
    yield from each("record_agent_complete(agent)", BAD_NAMES, shared.record_agent_complete)
    yield from each(
        "record_agent_complete(status)", BAD_STATUSES, lambda status: shared.record_agent_complete("a", status)
    )
    execution: dict[str, Any] = {"tool_name": "t", "agent_id": "a", "status": "ok", "duration_ms": 1}
    for argument, values in (
        ("tool_name", BAD_NAMES),
        ("agent_id", BAD_NAMES),
        ("status", BAD_STATUSES),
        ("duration_ms", BAD_DURATIONS),
    ):
        yield from each(
            f"record_tool_execution({argument}=)",
            values,
            lambda value, argument=argument: shared.record_tool_execution(**execution | {argument: value}),
        )
    yield from each("record_step_start(agent)", BAD_NAMES, lambda name: shared.record_step_start(name, "x"))
    yield from each("record_step_start(step)", BAD_NAMES, lambda name: shared.record_step_start("a", name))
    yield from each("record_step_complete(agent)", BAD_NAMES, lambda name: shared.record_step_complete(name, "x"))
    yield from each("record_step_complete(step)", BAD_NAMES, lambda name: shared.record_step_complete("a", name))
    yield from each(
        "record_step_complete(status)", BAD_STATUSES, lambda status: shared.record_step_complete("a", "x", status)
    )
    yield from each("record_workflow_info(agent)", BAD_NAMES, lambda name: shared.record_workflow_info(name, ["x"]))
    yield from each("record_workflow_info(steps)", BAD_STEPS, lambda steps: shared.record_workflow_info("a", steps))
    yield from each(
        "shared_metrics_hook",
        {
            "None": None,
            "text": "t",
            "empty": {},
            "no agent": {"tool_name": "t"},
            "wrong agent": {"tool_name": "t", "ctx": {"id": 5}},
            "wrong context": {"tool_name": "t", "ctx": "a"},
            "wrong status": {"tool_name": "t", "ctx": {"id": "a"}, "result": {"status": "finished"}},
            "wrong duration": {"tool_name": "t", "ctx": {"id": "a"}, "duration_ms": "5"},
        },
        shared.shared_metrics_hook,
    )
    for read in (
        shared.get_dashboard_data,
        shared.read_metrics,
        shared.clear_metrics,
        reader.get_dashboard_data,
        reader.read_metrics,
        reader.Reader,
        lambda home: list(reader.tail_events(home)),
        lambda home: reader.load_session("0" * 32, home),
    ):
        yield from each(f"{read.__module__}.{read.__name__}(home)", BAD_HOMES, read)
    yield from each("load_session", BAD_NAMES, reader.load_session)
    bad_limits: dict[str, Any] = {"negative": -1, "text": "5", "float": 1.5}
    yield from each("tail_events(limit=)", bad_limits, lambda limit: list(reader.tail_events(limit=limit)))
    yield from each("Reader.tail", bad_limits, lambda limit: reader.Reader().tail(limit))
    yield from each("Reader.session", BAD_NAMES, lambda session: reader.Reader().session(session))
    bad_seconds: dict[str, Any] = {"negative": -1, "text": "5", "not a number": float("nan"), "huge": 10**5000}
    yield from each("tail_events(poll_seconds=)", bad_seconds, lambda poll: reader.tail_events(poll_seconds=poll))


TABLE = list(_table())


@pytest.mark.parametrize("use", [use for _, use in TABLE], ids=[what for what, _ in TABLE])
def test_bad_input_is_refused_with_an_error_of_ours(use: Callable[[], Any]) -> None:
    with pytest.raises(PyjamaError) as caught:
        use()
    assert 0 < len(str(caught.value)) < 1000  # a 1 MB name is not said back
    assert not isinstance(caught.value, StoreUnavailable)


def test_the_error_says_what_was_expected() -> None:
    expectations: dict[Callable[[], Any], str] = {
        lambda: tool(name=""): "tool name must not be empty",
        lambda: agent_session(5): "agent name must be a string, not int",  # type: ignore[arg-type]  # on purpose
        lambda: tool(_Class): "decorate the methods of _Class instead",
        lambda: tool(capture=("y",))(lambda x: x): "capture names no parameter of the function: y",
        lambda: shared.record_agent_complete("a", "done"): "completed, failed, cancelled, not 'done'",
        lambda: agent_session("x" * 300): "at most 256 characters, not 300",
    }
    for use, message in expectations.items():
        with pytest.raises(ConfigError, match=message):
            use()


def test_a_configuration_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="agent name"):
        agent_session("")


def test_an_unknown_session_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        reader.load_session("0" * 32)
    with pytest.raises(SessionNotFound):
        reader.load_session("0" * 32)


def test_refused_input_records_nothing() -> None:
    with pytest.raises(ConfigError):
        shared.record_tool_execution(tool_name="t", agent_id="a", status="finished", duration_ms=1)
    assert sessions("a") == []


def test_a_refused_argument_leaves_the_session_as_it_was() -> None:
    with agent_session("a") as run:
        with pytest.raises(ConfigError):
            run.fail(5)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(ConfigError):
            run.step("")
    assert session_end("a").status == "completed"


def test_refused_settings_leave_the_old_ones() -> None:
    before = resolve_home()
    with pytest.raises(ConfigError):
        configure(home=" ")
    with pytest.raises(ConfigError):
        configure(enabled="no")  # type: ignore[arg-type]  # on purpose
    assert resolve_home() == before
    assert recorder.enabled


# -- a store that cannot be used


@pytest.fixture
def every_kind() -> list[Callable[[], Any]]:
    """Calls of decorated functions of every kind, in and out of sessions: all of them must work."""

    @tool(capture=True)
    def work(x: int) -> list[int]:
        return [x]

    @tool
    async def later(x: int) -> list[int]:
        await asyncio.sleep(0)
        return [x]

    @agent_session("decorated")
    @tool
    def items(x: int) -> Iterator[int]:
        yield x

    def in_session() -> list[int]:
        with agent_session("a", workflow=["x"]) as run, run.step("x"):
            run.annotate(k=1)
            return work(7)

    return [lambda: work(7), lambda: drained(later(7)), lambda: drained(items(7)), in_session]


def _works(every_kind: Sequence[Callable[[], Any]]) -> None:
    for use in every_kind:
        assert use() == [7]


def _unusable(home: str | Path) -> None:
    reset_for_testing(os.fspath(home))


def test_a_store_path_that_is_a_file_disturbs_nobody(
    tmp_path: Path, every_kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    _unusable(tmp_path / "file")
    _works(every_kind)
    assert not flush(0.1)
    assert (tmp_path / "file").read_text() == "mine"
    assert capsys.readouterr().err.count("\n") <= 2


def test_a_store_path_below_a_file_disturbs_nobody(tmp_path: Path, every_kind: Any) -> None:
    (tmp_path / "file").write_text("mine")
    _unusable(tmp_path / "file" / "store")
    _works(every_kind)


def test_a_store_path_that_is_too_long_disturbs_nobody(tmp_path: Path, every_kind: Any) -> None:
    _unusable(tmp_path / ("x" * 300))
    _works(every_kind)


def test_a_store_path_that_is_a_link_to_nothing_disturbs_nobody(tmp_path: Path, every_kind: Any) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    _unusable(tmp_path / "link")
    _works(every_kind)


def test_a_store_where_no_directory_can_be_made_disturbs_nobody(every_kind: Any) -> None:
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    _unusable("/proc/self/store")  # not even root can make a directory there
    _works(every_kind)
    with pytest.raises(StoreUnavailable, match="/proc/self/store"):
        shared.clear_metrics()


def test_a_store_of_another_user_is_neither_used_nor_changed(tmp_path: Path, every_kind: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    store = tmp_path / "foreign"
    store.mkdir(mode=0o755)
    os.chown(store, 12345, 12345)
    _unusable(store)
    _works(every_kind)
    assert list(store.iterdir()) == []
    assert stat.S_IMODE(store.stat().st_mode) == 0o755
    with pytest.raises(StoreUnavailable, match="belongs to another user"):
        shared.clear_metrics()


_EVERY_KIND = """
import asyncio, os, sys
from pyjama_instrument import agent_session, flush, tool
from pyjama_instrument.storage import compaction  # the interpreter's own files may be out of reach from now on
if user := int(os.environ.get("BECOME", "0")):
    os.setgid(user)
    os.setuid(user)

@tool(capture=True)
def work(x):
    return x

@tool
async def later(x):
    return x

@tool
def items(x):
    yield x

with agent_session("a") as run, run.step("x"):
    print(work(1), asyncio.run(later(2)), *items(3))
print(work(4), flush(0.1))
"""


def test_a_store_that_cannot_be_written_disturbs_nobody(run_python: RunPython, tmp_path: Path) -> None:
    store = tmp_path / "readonly"
    store.mkdir()
    store.chmod(0o555)
    user = 0 if os.geteuid() else 54321  # permissions mean nothing to root
    if user:
        os.chown(store, user, user)
        for directory in (tmp_path, *tmp_path.parents[:2]):  # pytest's own may be closed to others
            mode = stat.S_IMODE(directory.stat().st_mode)
            if not mode & stat.S_IXOTH:
                directory.chmod(mode | stat.S_IXOTH)
    done = run_python(_EVERY_KIND, PYJAMA_HOME=str(store), BECOME=str(user))
    assert done.stdout == "1 2 3\n4 False\n"
    assert "set PYJAMA_HOME to a directory you own" in done.stderr
    assert list(store.iterdir()) == []
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 4


@pytest.mark.parametrize("home", ["", None])
def test_without_home_the_users_own_directory_is_used(run_python: RunPython, home: str | None) -> None:
    source = (
        "import os, pwd\nfrom pyjama_instrument.config import resolve_home\n"
        "assert resolve_home() == os.path.join(pwd.getpwuid(os.getuid()).pw_dir, '.pyjama')\n"
    )
    run_python(source, HOME=home, PYJAMA_HOME=None)


@pytest.mark.parametrize("home", ["", None])
def test_a_user_without_any_home_is_disturbed_by_nothing(run_python: RunPython, home: str | None) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become a user that does not exist")
    done = run_python(_EVERY_KIND, HOME=home, PYJAMA_HOME=None, BECOME="54321")
    assert done.stdout == "1 2 3\n4 False\n"
    assert "set HOME or PYJAMA_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_relative_store_stays_where_it_was_wherever_the_program_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "before").mkdir()
    monkeypatch.chdir(tmp_path / "before")
    monkeypatch.setenv("PYJAMA_HOME", f"store-of-{os.getpid()}")
    store = tmp_path / "before" / f"store-of-{os.getpid()}"
    with agent_session("a") as run:
        monkeypatch.chdir(tmp_path)
        assert run.env()["PYJAMA_HOME"] == str(store)
    assert list(reader.get_dashboard_data().agents) == ["a"]
    assert store.exists()


def test_a_relative_store_outlives_the_directory_it_was_given_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setenv("PYJAMA_HOME", f"../store-of-{os.getpid()}")
    monkeypatch.chdir(gone)
    with agent_session("a"):
        pass
    gone.rmdir()
    assert list(reader.get_dashboard_data().agents) == ["a"]
    monkeypatch.setenv("PYJAMA_HOME", "another")
    with pytest.raises(StoreUnavailable, match="working directory no longer exists"):
        resolve_home()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("home", ["  ", "relative/store", "~/inside"])
def test_an_unusual_pyjama_home_disturbs_nobody(run_python: RunPython, home: str) -> None:
    done = run_python(_EVERY_KIND, PYJAMA_HOME=home)
    assert done.stdout.startswith("1 2 3\n4 ")
    assert "Traceback" not in done.stderr


def test_home_that_is_a_file_disturbs_nobody(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_python(_EVERY_KIND, HOME=str(tmp_path / "file"), PYJAMA_HOME=None)
    assert done.stdout == "1 2 3\n4 False\n"
    assert "set PYJAMA_HOME" in done.stderr


def test_stderr_may_be_closed(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_python("import sys; sys.stderr = None\n" + _EVERY_KIND, PYJAMA_HOME=str(tmp_path / "file"))
    assert done.stdout == "1 2 3\n4 False\n"


def test_recording_begins_when_the_place_recovers(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text("in the way")
    _unusable(store)
    work = tool("t")(lambda: None)
    work()
    store.unlink()
    recorder.journals.reopen_at_ns = 0  # as if the pause between attempts were over
    work()
    assert len(calls("t")) == 1


def test_a_store_that_is_removed_while_in_use_disturbs_nobody(own_store: Path, every_kind: Any) -> None:
    _works(every_kind)
    remove_tree(own_store)
    _works(every_kind)
    flush(0.1)


# -- values that the user's functions take and give


@pytest.mark.parametrize("value", [_Unshowable(), _BrokenMapping()], ids=["unshowable", "broken mapping"])
def test_hostile_values_pass_through_a_session_and_a_tool(value: Any) -> None:
    with agent_session("a") as run:
        run.annotate(value=value)
        assert tool(capture=True)(lambda x: x)(value) is value
    assert session_end("a").status == "completed"
