"""One home with the original: its agents rewrite the same document in place, and all totals are exact."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyjama_instrument.reader import Reader
from tests.faults.oracle import Balance, all_numbers, balance, settle
from tests.faults.original import AGENT, TOOL, one_call, rewrite
from tests.process.children import HANG_SECONDS, line_from, started, until
from tests.scale import at_full_size, full
from tests.stores import Writer, a_call, fold, session_begins, snapshot

ROOT = Path(__file__).resolve().parents[2]
SECONDS = full(60.0, 3.0)

OURS = """
import select
from tests.faults.oracle import Ledger
ledger = Ledger(sys.argv[1])
with agent_session("ours"):
    say("ready")
    n = 0
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        assert work(n) == n
        ledger.acknowledge(n)
        n += 1
        if n % 50 == 0:
            flush()
"""


@contextlib.contextmanager
def _an_original(home: Path, ledger: Path) -> Iterator[None]:
    """The small one, until the end of the block."""
    command = [sys.executable, "-m", "tests.faults.original", str(home), str(ledger)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as child:
        try:
            yield
            assert child.stdin is not None
            child.stdin.close()
            assert child.wait(HANG_SECONDS) == 0
        finally:
            child.kill()


def _three_of_ours_under_kills(home: Path, ledgers: Path, go_on: Callable[[], bool]) -> int:
    """Have three processes of ours record and kill one after the other meanwhile; the number of kills."""
    chance, kills = random.Random(0), 0
    environment = os.environ | {"PYJAMA_HOME": str(home)}
    with contextlib.ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            path = str(ledgers / f"ours-{kills}-{len(ours)}")
            child = stack.enter_context(started(OURS, path, env=environment, cwd=ROOT))
            assert line_from(child) == "ready"
            return child

        ours: list[subprocess.Popen[str]] = []
        for _ in range(3):
            ours.append(start())
        while kills < 3 or go_on():
            time.sleep(chance.random() * 0.3)
            victim = ours.pop(chance.randrange(3))
            victim.send_signal(signal.SIGKILL)
            victim.communicate(timeout=HANG_SECONDS)
            kills += 1
            ours.append(start())
        for child in ours:
            out, err = child.communicate("\n", timeout=HANG_SECONDS)
            assert (child.returncode, err) == (0, ""), out
    return kills


def _for_a_while() -> Callable[[], bool]:
    deadline = time.monotonic() + SECONDS
    return lambda: time.monotonic() < deadline


def _all_is_exact(home: Path, ours: int, theirs: int, kills: int) -> Balance:
    settle(home)
    document = snapshot(home)
    assert document["tools"][TOOL]["count"] == len(document["tools"][TOOL]["durations"]) == theirs
    assert document["agents"][AGENT]["status"] == "running"
    assert not (home / "metrics.lock").exists()
    struck = balance(home, ours + theirs)
    struck.check(cut_off=kills)
    return struck


@pytest.mark.timeout(full(600, 120))
def test_one_home_with_an_original_under_kills_is_exact_for_both(own_store: Path, tmp_path: Path) -> None:
    ledgers = tmp_path / "ledgers"
    ledgers.mkdir()
    own_store.mkdir()
    with _an_original(own_store, ledgers / "theirs"):
        kills = _three_of_ours_under_kills(own_store, ledgers, _for_a_while())
    theirs = (ledgers / "theirs").stat().st_size // 8
    assert theirs >= 10
    struck = _all_is_exact(own_store, len(all_numbers(ledgers)) - theirs, theirs, kills)
    print(f"{kills} kills, {theirs} calls of theirs, {struck}")


@at_full_size
@pytest.mark.timeout(900)
def test_one_home_with_a_real_clojure_agent_under_kills_is_exact_for_both(own_store: Path, tmp_path: Path) -> None:
    jars = [f"/usr/share/java/{name}.jar" for name in ("clojure", "spec.alpha", "core.specs.alpha", "data.json")]
    if shutil.which("java") is None or not os.path.exists(jars[-1]):
        pytest.skip("needs a JVM agent: apt-get install clojure libdata-json-clojure")
    ledgers, made = tmp_path / "ledgers", tmp_path / "made"
    ledgers.mkdir()
    own_store.mkdir()
    script = Path(__file__).with_name("original.clj")
    command = ["java", "-cp", ":".join(jars), "clojure.main", str(script), str(own_store), "500", str(made)]
    with subprocess.Popen(command) as jvm:
        try:
            until(made.exists)
            kills = _three_of_ours_under_kills(own_store, ledgers, lambda: jvm.poll() is None)
        finally:
            jvm.kill()
    assert jvm.returncode == 0
    struck = _all_is_exact(own_store, len(all_numbers(ledgers)), int(made.read_text()), kills)
    print(f"{kills} kills, {made.read_text()} calls of theirs, {struck}")


# -- what the original writes, one thing at a time


def _counts(home: Path) -> tuple[int, int]:
    document = Reader(home).metrics()
    return document["global"]["count"], document["agents"][AGENT]["calls"]["count"]


def test_one_home_an_agent_written_under_the_same_key_twice_counts_with_both_halves(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(agent=AGENT), a_call(agent=AGENT), a_call(agent=AGENT))
    fold(own_store)
    document = snapshot(own_store)
    ours = json.dumps(document["agents"].pop(AGENT))
    theirs = '{"status":"running","last-seen":5,"calls":{"count":3,"success":3},"extra":[1]}'
    text = json.dumps(document | {"agents": {}}).replace(
        '"agents": {}', f'"agents": {{"{AGENT}":{ours},"{AGENT}":{theirs}}}'
    )
    (own_store / "metrics.json").write_text(text)
    assert _counts(own_store) == (2, 5)
    writer.write(a_call(agent=AGENT))
    fold(own_store)
    assert _counts(own_store) == (3, 6)
    agent = snapshot(own_store)["agents"][AGENT]
    assert agent["extra"] == [1]
    assert agent["last-seen"] > 5
    assert agent["runs"]["count"] == 1
    writer.die()


def test_one_home_unknown_keys_and_durations_of_theirs_stay(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    rewrite(own_store, one_call)
    rewrite(own_store, lambda data: data.update({"their-key": {"a": [1, 2]}}))
    for _ in range(3):
        writer.write(a_call())
        fold(own_store)
    document = snapshot(own_store)
    assert document["their-key"] == {"a": [1, 2]}
    assert document["global"]["durations"] == document["tools"][TOOL]["durations"] == [1.5]
    assert document["global"]["count"] == 5
    writer.die()


def test_one_home_half_of_their_document_is_read_again_and_not_condemned(own_store: Path) -> None:
    # They hold their lock while they write, so whoever folds waits, and whoever reads takes what was there before.
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    whole = (own_store / "metrics.json").read_bytes()
    (own_store / "metrics.lock").touch()
    (own_store / "metrics.json").write_bytes(whole[: len(whole) // 2])
    assert fold(own_store) == "busy"
    assert Reader(own_store).metrics()["global"]["count"] == 1
    (own_store / "metrics.json").write_bytes(whole)
    (own_store / "metrics.lock").unlink()
    writer.write(a_call())
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 2
    assert not list(own_store.glob("metrics.json.corrupt-*"))
    writer.die()


def test_one_home_their_clear_is_a_clear_and_nothing_is_counted_twice(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call(), a_call())
    fold(own_store)
    rewrite(own_store, dict.clear)
    writer.write(a_call(ts=time.time_ns() // 1000 + 1_000_000))
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1
    rewrite(own_store, one_call)
    assert fold(own_store) in ("current", "folded")
    assert Reader(own_store).metrics()["global"]["count"] == 2
    writer.die()
