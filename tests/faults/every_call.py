"""Every call of every flow killed, or failed, in turn: n = 1, 2, … until the flow comes through untouched.

Run as a program, since it forks: ``python -m tests.faults.every_call crash FLOW`` prints, as JSON, how many injections
there were and what was wrong after each. ``error`` injects errors, ``strace`` kills at the system calls themselves.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pyjama_instrument import _guard
from pyjama_instrument.recording.recorder import recorder
from tests.faults.flows import FLOWS, Flow, Place, Work, in_a_child, place, what_is_wrong
from tests.faults.injection import ERRORS, Dies, Fails, injected
from tests.faults.oracle import all_numbers
from tests.stores import AGENT

__all__ = ["report"]

SYSTEM_CALLS = (
    "close", "dup2", "dup3", "fchmodat", "fcntl", "flock", "fstat", "fsync", "ftruncate", "getdents64", "link",
    "linkat", "lseek", "mkdir", "mkdirat", "newfstatat", "openat", "pread64", "pwrite64", "rename", "renameat",
    "unlink", "unlinkat", "utimensat", "write",
)  # fmt: skip
_ENOUGH = 2000
_LATER = 3
"""Calls after the fault has gone."""


def report(mode: str, flow: str, every: int) -> dict[str, Any]:
    """What a run of this program says: ``injections``, and ``wrong`` by injection. One in ``every`` is made."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "error", "-m", "tests.faults.every_call", mode, flow, str(every)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)  # type: ignore[no-any-return]  # json gives Any


# -- death


def crashes(flow: Flow, every: int) -> Iterator[tuple[str, list[str]]]:
    for number in range(1, _ENOUGH):
        if number % every:
            continue
        for after in (False, True):
            with place(flow) as where:
                code = _wait(in_a_child(where, flow, partial(_under, Dies(number, after), flow)))
                if code == 0:
                    return
                wrong = [] if code == 77 else [f"ended with {code}: {_failure(where)}"]
                yield f"{number} {'after' if after else 'before'}", wrong + list(what_is_wrong(where, flow, cut_off=1))


def _under(fault: Dies | Fails, flow: Flow, work: Work) -> None:
    with injected(fault):
        flow.act(work)


# -- errors


def errors(flow: Flow, every: int) -> Iterator[tuple[str, list[str]]]:
    """Each error at each call, once and lasting until it is healed; one in ``every`` of all these combinations."""
    turn = 0
    for number in range(1, _ENOUGH):
        untouched = False
        for error in ERRORS:
            for lasting in (False, True):
                turn += 1
                if turn % every:
                    continue
                fault = Fails(number, error, lasting)
                name = f"{number} {error}{' lasting' if lasting else ''}"
                touched, wrong = _with_an_error(flow, fault)
                untouched |= not touched
                if touched:
                    yield name, wrong
        if untouched:
            return


def _with_an_error(flow: Flow, fault: Fails) -> tuple[bool, list[str]]:
    with place(flow) as where:
        touched = where.ledgers.parent / "touched"

        def run(work: Work) -> None:
            with injected(fault) as seen:
                flow.act(work)
            if len(seen) >= fault.number:
                touched.touch()
            _heal(work)

        code = _wait(in_a_child(where, flow, run))
        if code:
            return True, [f"ended with {code}: {_failure(where)}"]
        said = json.loads((where.ledgers.parent / "report.json").read_text())
        wrong = list(_unaccounted(where, said)) if not (flow.wipes or flow.clears) else []
        return touched.exists(), wrong + list(what_is_wrong(where, flow, later=_LATER))


def _heal(work: Work) -> None:
    """The fault is gone: recording has resumed at the next call, and what was dropped is told."""
    work(1)
    before = sum(recorder.writer.dropped.unreported().values())
    work(_LATER - 1)
    assert sum(recorder.writer.dropped.unreported().values()) <= before, "recording has not resumed"
    recorder.tick()
    assert not recorder.writer.dropped.unreported(), "what was dropped is not reported"
    assert recorder.flush(5.0), "the snapshot is not written although the fault is gone"
    assert set(_guard.counts) <= {"recorder.flusher", "recorder.flush", "recorder.exit"}, _guard.counts
    recorder.hooks.at_exit()


def _unaccounted(where: Place, said: dict[str, Any]) -> Iterator[str]:
    """Events made = events on file + events reported as dropped, of every kind."""
    made = where.prepared + len(all_numbers(where.ledgers)) + said["others"]
    on_file = reported = 0
    prepared_others = 0
    for path in where.home.glob("*/*.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["kind"] == "writer.dropped":
                reported += record["count"]
            elif not record["kind"].startswith("writer."):
                on_file += 1
                prepared_others += record["kind"] != "tool.ended" and record["agent"] == AGENT
    if made != on_file - prepared_others + reported:
        yield f"{made} events were made, {on_file - prepared_others} are on file, {reported} reported as dropped"


# -- death by strace


def strace_kills(flow: Flow, every: int) -> Iterator[tuple[str, list[str]]]:
    for name, number in _calls_met(flow)[every - 1 :: every]:
        with place(flow) as where:
            code = _straced(where, flow, name, f"inject={name}:signal=KILL:when={number}")
            if code == 0:
                continue  # there are fewer this time
            wrong = [] if code == -signal.SIGKILL else [f"ended with {code}: {_failure(where)}"]
            yield f"{name} {number}", wrong + list(what_is_wrong(where, flow, cut_off=1))


def _calls_met(flow: Flow) -> list[tuple[str, int]]:
    """The system calls of an untouched run in their order, each with how many of its name there were so far."""
    with place(flow) as where, tempfile.NamedTemporaryFile("r") as log:
        code = _straced(where, flow, ",".join(SYSTEM_CALLS), log=log.name)
        assert code == 0, _failure(where)
        names = re.findall(r"^(?:\d+ +)?(\w+)\(", log.read(), re.MULTILINE)
    so_far: Counter[str] = Counter()
    met = []
    for name in names:
        so_far[name] += 1
        met.append((name, so_far[name]))
    return met


def _straced(where: Place, flow: Flow, names: str, *more: str, log: str = "/dev/null") -> int:
    reading, writing = os.pipe()
    at_the_gate, there = os.pipe()

    def gate() -> None:
        os.close(writing)
        os.write(there, b".")  # nothing before this may be counted by strace
        os.read(reading, 1)  # until strace is there

    pid = in_a_child(where, flow, flow.act, gate)
    os.close(reading)
    os.close(there)
    os.read(at_the_gate, 1)
    os.close(at_the_gate)
    asked = [option for each in (f"trace={names}", *more) for option in ("-e", each)]
    command = ["strace", "-f", "-qqq", "-o", log, "-p", str(pid), *asked]
    try:
        tracer = _attached(command, pid)
    except AssertionError as error:
        raise AssertionError(f"{error}; the child: {_failure(where)}") from None
    try:
        os.close(writing)
        return _wait(pid)
    finally:
        tracer.communicate(timeout=60)


def _attached(command: list[str], pid: int) -> subprocess.Popen[str]:
    """A tracer that is in place. One that ends at once, which happens on a busy machine, is started again."""
    said = ""
    for _ in range(5):
        tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while tracer.poll() is None and time.monotonic() < deadline:
            if "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text():
                return tracer
            time.sleep(0.001)
        tracer.kill()
        said = tracer.communicate()[1]
    raise AssertionError(f"strace does not attach: {said}")


# --


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _failure(where: Place) -> str:
    try:
        return (where.ledgers.parent / "failure.txt").read_text()
    except FileNotFoundError:
        return "without a word"


_MODES: dict[str, Callable[[Flow, int], Iterable[tuple[str, list[str]]]]] = {
    "crash": crashes,
    "error": errors,
    "strace": strace_kills,
}


def _main(mode: str, flow: str, every: str) -> None:
    _guard.report_once = lambda key, sentence: None  # the faults are expected
    found = dict(_MODES[mode](FLOWS[flow], int(every)))
    print(json.dumps({"injections": len(found), "wrong": {name: wrong for name, wrong in found.items() if wrong}}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
