"""``pyjama doctor`` names what is wrong with a store and what to do about it, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyjama_instrument import agent_session
from tests.conftest import RunPython
from tests.stores import a_call, dead_journal

IMPORTS = "import pyjama_instrument.cli.doctor as doctor\n"
DOCTOR = "import sys, pyjama_instrument.cli\nsys.exit(pyjama_instrument.cli.main(['doctor']))"


@pytest.fixture
def used_store(own_store: Path, run_python: RunPython) -> Path:
    """A store with a run in it by a process that is gone: a live one would go on folding, and mend what we damage."""
    run_python("from pyjama_instrument import tool; tool('work')(len)('x')")
    return own_store


def examine(returncode: int = 0, **env: str) -> dict[str, list[tuple[str, str]]]:
    """What each check printed: (level, text) pairs by its name."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pyjama_instrument", "doctor"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (returncode, ""), done.stdout
    found: dict[str, list[tuple[str, str]]] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"(ok|warn|fail) +(\S+) +(.*)", line)
        assert match, line
        found.setdefault(match[2], []).append((match[1], match[3]))
    return found


def levels(found: dict[str, list[tuple[str, str]]]) -> set[str]:
    return {level for findings in found.values() for level, _ in findings}


def test_a_sound_store_is_ok_throughout(used_store: Path) -> None:
    assert levels(examine()) == {"ok"}


def test_a_store_that_does_not_exist_yet_is_ok_and_not_made(own_store: Path) -> None:
    found = examine()
    assert levels(found) == {"ok"}
    assert "does not exist yet" in found["home"][0][1]
    assert not own_store.exists()


def test_nothing_in_the_store_is_changed(used_store: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in used_store.rglob("*")}
    examine()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in used_store.rglob("*")} == before


def test_the_versions_of_everything_involved_are_listed(used_store: Path) -> None:
    text = " ".join(text for _, text in examine()["versions"])
    assert all(name in text for name in ("Python 3.", "pyjama_instrument", "wrapt", "filelock", "pydantic", "uvicorn"))


def test_live_writers_are_counted(used_store: Path) -> None:
    with agent_session("crawler"):
        assert "1 with a live writer" in examine()["journals"][0][1]


def test_a_backlog_is_a_warning_from_half_of_what_may_wait(used_store: Path) -> None:
    for n in range(4_998):
        (used_store / "journal" / f"{n:016x}-1.jsonl").write_bytes(b"{}\n")
    assert [level for level, _ in examine()["journals"]] == ["ok", "ok"]
    for n in range(5_000, 5_010):
        (used_store / "journal" / f"{n:016x}-1.jsonl").write_bytes(b"{}\n")
    level, text = examine()["journals"][-1]
    assert (level, "50% of what may wait" in text) == ("warn", True)


def test_a_store_open_to_others_is_a_warning_with_the_command_that_mends_it(used_store: Path) -> None:
    used_store.chmod(0o755)
    ((level, text),) = examine()["home"]
    assert (level, f"chmod 700 {used_store}" in text) == ("warn", True)


def test_a_file_in_the_place_of_the_store_is_a_failure(own_store: Path) -> None:
    own_store.write_text("")
    ((level, text),) = examine(returncode=1)["home"]
    assert (level, "not a directory" in text) == ("fail", True)


def test_a_store_that_cannot_be_written_is_a_failure(used_store: Path, run_python: RunPython) -> None:
    # Simulated: root may write anywhere.
    shown = run_python("import os; os.access = lambda *_: False\n" + DOCTOR, returncode=1).stdout
    assert re.search(r"^fail +home .*cannot be written", shown, re.MULTILINE)


def test_a_store_of_another_user_is_a_failure(used_store: Path) -> None:
    if os.geteuid() == 0:
        os.chown(used_store, 12345, 12345)
        foreign, owner = used_store, 12345
    else:
        foreign, owner = Path("/usr"), 0
    ((level, text),) = examine(returncode=1, PYJAMA_HOME=str(foreign))["home"]
    assert (level, f"belongs to user {owner}" in text) == ("fail", True)


def test_a_store_of_a_newer_version_is_a_failure_that_asks_for_an_upgrade(used_store: Path) -> None:
    (used_store / "metrics.json").write_text(json.dumps({"schema": 999}))
    ((level, text),) = examine(returncode=1)["snapshot"]
    assert (level, "upgrade" in text) == ("fail", True)


def test_a_snapshot_that_cannot_be_read_is_a_warning(used_store: Path) -> None:
    (used_store / "metrics.json").write_text("{")
    assert examine()["snapshot"][0][0] == "warn"


def test_a_lock_file_left_behind_is_a_warning_that_names_it(used_store: Path) -> None:
    lock = used_store / "metrics.lock"
    lock.write_text("")
    os.utime(lock, (0, 0))
    ((level, text),) = examine()["metrics.lock"]
    assert (level, f"rm {lock}" in text) == ("warn", True)


def test_a_lock_file_that_is_in_use_is_no_warning(used_store: Path) -> None:
    (used_store / "metrics.lock").write_text("")
    assert examine()["metrics.lock"][0][0] == "ok"


def test_damaged_records_are_a_warning(used_store: Path) -> None:
    writer = "0" * 16
    (used_store / "journal" / f"{writer}-1.jsonl").write_bytes(b"garbage\n")
    ((level, text),) = examine()["health"]
    assert (level, "damaged" in text) == ("warn", True)


def test_recording_that_is_switched_off_is_a_warning(used_store: Path) -> None:
    assert examine(PYJAMA_DISABLED="1")["recording"][0][0] == "warn"


def test_a_missing_viewer_is_a_warning_with_the_command_that_installs_it(run_python: RunPython) -> None:
    code = "doctor._version = lambda name, known=doctor._version: None if name == 'uvicorn' else known(name)\n"
    shown = run_python(IMPORTS + code + DOCTOR).stdout
    assert re.search(r"^warn +versions .*pip install 'pyjama_instrument\[viewer\]'", shown, re.MULTILINE)


def test_locks_that_do_not_work_are_a_failure(run_python: RunPython) -> None:
    shown = run_python(IMPORTS + "doctor.is_held = lambda fd: False\n" + DOCTOR, returncode=1).stdout
    assert re.search(r"^fail +locks .*PYJAMA_HOME", shown, re.MULTILINE)


def test_one_file_is_one_file(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    assert any(text.startswith("journal: 1 file, ") for _, text in examine()["journals"])
