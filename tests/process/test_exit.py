"""Bad places and the end of a program: the tool returns its value, and what was dropped is counted."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument.reader import get_dashboard_data
from pyjama_instrument.storage.encoding import encode
from tests.process.children import PREAMBLE, ended, line_from, started, tell, the_session, until
from tests.stores import Writer, a_call, remove, snapshot


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def unwritable(place: Path) -> Iterator[None]:
    """Nobody can write there, not even root."""
    place.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        place.chmod(0o500)
        yield
        place.chmod(0o700)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a read-only file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


ON_A_FULL_DISK = """
store = os.environ["PYJAMA_HOME"]
with agent_session("agent"):
    work()
    filler = os.open(os.path.join(os.path.dirname(store), "filler"), os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(filler, bytes(4096))
    except OSError:
        pass
    slow = 0
    for n in range(5000):
        began = time.perf_counter_ns()
        assert work(n) == n
        slow += time.perf_counter_ns() - began >= 1_000_000
    say(slow)
    wait()
    os.ftruncate(filler, 0)
    assert [work(n) for n in range(10)] == list(range(10))
"""


def test_on_a_full_disk_tools_work_drops_are_counted_and_recording_resumes(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_disk / "store"
    monkeypatch.setenv("PYJAMA_HOME", str(store))
    with started(ON_A_FULL_DISK) as child:
        slow = int(line_from(child))
        assert the_session().status == "running"
        tell(child)
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0
    assert said.count("(ENOSPC)") == 1
    assert said.count("\n") <= 3  # a record that was cut short is another reason, and so is a fold that came meanwhile
    data = get_dashboard_data()
    calls, dropped = data.metrics.global_.count, sum(data.health.dropped.values())
    assert calls >= 1 + 10
    # A record that was cut short is dropped *and* torn, and the call after a slow one has its beginning recorded too.
    assert 5011 <= calls + dropped <= 5011 + data.health.torn + slow
    assert the_session(data).status == "completed"
    assert snapshot(store)["global"]["count"] == calls
    assert not (store / "metrics.lock").exists()


def test_where_nothing_can_be_written_tools_work_and_one_line_says_so(tmp_path: Path) -> None:
    home = tmp_path / "readonly"
    with unwritable(home), started(
        "assert [work(n) for n in range(1000)] == list(range(1000))", env=os.environ | {"PYJAMA_HOME": str(home)}
    ) as child:  # fmt: skip
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0
        assert os.listdir(home) == []
    assert said.count("nothing is recorded") == 1
    assert str(home) in said
    assert "1003 events could not be recorded" in said  # the calls, the first one's start, the session's two ends


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_a_home_that_does_not_exist_does_not_hurt(home: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYJAMA_")}
    blocked = tmp_path / "file"
    blocked.write_text("no directory can be made below a file")
    with started("assert work(5) == 5", env=environment | {"HOME": str(blocked / home.strip("/"))}) as child:
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0
    assert "nothing is recorded" in said


def test_a_place_that_becomes_writable_is_taken_into_use(tmp_path: Path) -> None:
    home = tmp_path / "later"
    home.write_text("in the way")
    source = """
with agent_session("agent"):
    work()
    say("go")
    wait()
"""
    with started(source, env=os.environ | {"PYJAMA_HOME": str(home)}) as child:
        line_from(child)
        home.unlink()
        tell(child)
        child.communicate(timeout=60)
        assert child.returncode == 0


def test_the_end_of_a_program_needs_no_store(own_store: Path) -> None:
    with started("work()\nsay('ready')\nwait()") as child:
        line_from(child)
        remove(own_store)
        tell(child)
        ended(child)


def test_the_end_waits_for_no_reader_and_no_other_agent(own_store: Path) -> None:
    with started('with agent_session("long"):\n    say("ready")\n    wait()') as long:
        line_from(long)
        with started("[work() for _ in range(100)]") as child:
            ended(child)
        until(lambda: get_dashboard_data().metrics.global_.count == 100)
        tell(long)
        ended(long)


def test_standard_error_that_is_closed_does_not_hurt(tmp_path: Path) -> None:
    source = "os.close(2)\nsys.stderr = None\nassert work(7) == 7\nsay('fine')"
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with started(source, env=os.environ | {"PYJAMA_HOME": str(blocked)}) as child:
        assert line_from(child) == "fine"
        child.communicate(timeout=60)
        assert child.returncode == 0


def test_the_preamble_of_these_tests_records_nothing_by_itself(own_store: Path) -> None:
    assert "work" in PREAMBLE
    with started("") as child:
        ended(child)
    assert not own_store.exists()


INTERRUPTED = """
from pyjama_instrument.recording import throttle
from pyjama_instrument.recording.recorder import recorder
work()
recorder.background.flusher.stop()  # so that all of it is left to the end
recorder.folding.exit_seconds, throttle._FEW = 600.0, 1 << 60  # long enough to be interrupted for sure
from pyjama_instrument.storage import journal_scan
read = journal_scan.read_segment

def interrupted(*args, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return read(*args, **options)

journal_scan.read_segment = interrupted
"""


def test_an_interrupt_during_the_last_fold_leaves_no_traceback_and_loses_nothing(own_store: Path) -> None:
    with started(INTERRUPTED) as child:
        ended(child)
    data = get_dashboard_data()
    assert (data.metrics.global_.count, the_session(data).status) == (1, "completed")
    assert not (own_store / "metrics.lock").exists()


def test_short_programs_drain_a_backlog_together_and_each_is_recorded(own_store: Path) -> None:
    writer = Writer(own_store)
    line = encode(a_call("waiting"))
    count = 4 * 1024 * 1024 // len(line)
    writer.raw(line * count)
    writer.die()
    source = """
from pyjama_instrument.recording import folding
from pyjama_instrument.recording.recorder import recorder
folding._EXIT_FOLD_SECONDS = recorder.folding.exit_seconds = 0.0  # a few portions
[work() for _ in range(100)]
"""
    folded: list[int] = []
    while not folded or folded[-1] < count:
        with started(source) as child:
            ended(child)
        tools = snapshot(own_store)["tools"]
        folded.append(tools.get("waiting", {}).get("count", 0))
        assert folded == sorted(set(folded))
        assert get_dashboard_data().metrics.tools["work"].count == 100 * len(folded)
    assert len(folded) > 2
    assert snapshot(own_store)["tools"]["waiting"]["count"] == count
