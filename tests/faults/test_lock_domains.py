"""Two lock domains on one store: counted exactly, nobody called crashed, nothing retired, and said so."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument.cli import main
from pyjama_instrument.reader import Reader, get_dashboard_data
from tests.faults.lock_domains import SEPARATE
from tests.faults.oracle import balance
from tests.process.children import ended, killed, line_from, started, tell
from tests.stores import snapshot

# Says "ready", and then does as it is told, one line at a time: so many calls, a fold, or the end.
AGENT = """
with agent_session(sys.argv[1]):
    say("ready")
    for order in sys.stdin:
        if order.startswith("fold"):
            flush()
        else:
            for n in range(int(order)): work(n)
        say("done")
"""


def do(child: subprocess.Popen[str], *orders: str) -> None:
    for order in orders:
        tell(child, order)
        assert line_from(child) == "done"


def ends(*children: subprocess.Popen[str]) -> None:
    for child in children:
        ended(child)


@contextlib.contextmanager
def two_sides(locks: Path) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """An agent ``here``, and one ``there`` whose locks nobody here sees."""
    locks.mkdir()
    environment = {**os.environ, "LOCKS": str(locks)}
    with started(AGENT, "here") as here, started(SEPARATE + AGENT, "there", env=environment) as there:
        assert (line_from(here), line_from(there)) == ("ready", "ready")
        yield here, there


def statuses() -> dict[str, str]:
    return {name: agent.status for name, agent in get_dashboard_data().agents.items()}


def test_two_writers_that_see_no_lock_of_each_other_s_are_counted_exactly_and_none_crashes(
    own_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with two_sides(tmp_path / "locks") as (here, there):
        do(here, "10", "fold", "fold", "fold")
        do(there, "10", "fold", "fold", "fold")
        retired = sorted(own_store.glob("history/*"))  # before it was found out
        for _ in range(6):
            do(here, "5", "fold", "fold", "5")
            do(there, "5", "fold", "fold", "5")
        assert statuses() == {"here": "running", "there": "running"}
        ends(here, there)
    assert statuses() == {"here": "completed", "there": "completed"}
    balance(own_store, 140).check()
    assert sorted(own_store.glob("history/*")) == retired
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "do not see each other's locks" in said
    assert all(f"process {child.pid}" in said for child in (here, there))


def test_a_segment_that_was_retired_under_its_writer_is_counted_to_its_end(own_store: Path, tmp_path: Path) -> None:
    with two_sides(tmp_path / "locks") as (here, there):
        do(there, "30")
        do(here, "fold", "fold", "fold", "fold")  # nothing comes: taken for dead, and retired
        do(there, "40")
        do(here, "70", "fold")
        assert statuses() == {"here": "running", "there": "running"}
        ends(here, there)
    balance(own_store, 140).check()
    assert statuses() == {"here": "completed", "there": "completed"}


def test_a_reader_whose_side_never_folds_finds_it_out_and_calls_nobody_crashed(own_store: Path, tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    locks.mkdir()
    with started(SEPARATE + AGENT, "there", env={**os.environ, "LOCKS": str(locks)}) as there:
        assert line_from(there) == "ready"
        reader = Reader(own_store)
        for _ in range(3):
            do(there, "5", "fold")
            reader._probed_at = float("-inf")
            data = reader.dashboard()
            assert data.metrics.global_.count == snapshot(own_store)["global"]["count"]
        assert data.agents["there"].status == "running"
        assert any("do not see each other's locks" in note for note in data.health.notes)
        ends(there)
    assert reader.dashboard().agents["there"].status == "completed"


def test_a_process_of_either_side_that_is_killed_loses_nothing_and_the_rest_goes_on(
    own_store: Path, tmp_path: Path
) -> None:
    with two_sides(tmp_path / "locks") as (here, there):
        for _ in range(3):
            do(here, "5", "fold")
            do(there, "5", "fold")
        killed(there)
        do(here, "5", "fold", "fold")
        # Both run on this kernel: that its process is gone is known without its lock.
        assert statuses() == {"here": "running", "there": "crashed"}
        ends(here)
    balance(own_store, 35).check()


def test_a_process_that_is_killed_while_it_folds_keeps_the_other_side_from_nothing(
    own_store: Path, tmp_path: Path
) -> None:
    dies = """
from pyjama_instrument.storage import compaction
compaction._encoded = lambda *_: os.kill(os.getpid(), 9)
work(), flush()
"""
    with two_sides(tmp_path / "locks") as (here, there):
        for _ in range(2):
            do(here, "5", "fold")
            do(there, "5", "fold")
        with started(SEPARATE + dies, env={**os.environ, "LOCKS": str(tmp_path / "locks")}) as folder:
            assert folder.wait() == -9
        do(here, "5", "fold")
        do(there, "5", "fold")
        ends(here, there)
    balance(own_store, 31).check()


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An overlay file system, and its upper directory."""
    parts = {name: tmp_path / name for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    options = "lowerdir={lower},upperdir={upper},workdir={work}".format(**parts)
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    yield parts["merged"], parts["upper"]
    subprocess.run(["umount", str(parts["merged"])], check=True)


def test_an_overlay_seen_from_inside_and_from_its_upper_directory_is_counted_exactly(
    overlay: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, upper = (place / "store" for place in overlay)
    upper.mkdir(0o700)
    monkeypatch.setenv("PYJAMA_HOME", str(upper))
    environment = {**os.environ, "PYJAMA_HOME": str(inside)}
    with started(AGENT, "outside") as outer, started(AGENT, "inside", env=environment) as inner:
        assert (line_from(outer), line_from(inner)) == ("ready", "ready")
        for _ in range(7):
            do(outer, "5", "fold", "fold", "5")
            do(inner, "10")
        assert statuses() == {"inside": "running", "outside": "running"}
        ends(outer, inner)
    assert statuses() == {"inside": "completed", "outside": "completed"}
    balance(upper, 140).check()
