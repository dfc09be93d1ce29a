"""``pyjama demo`` and ``pyjama dashboard``: what a newcomer sees first, as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.reader import get_dashboard_data

PYJAMA = [sys.executable, "-W", "error", "-m", "pyjama_instrument"]
ROOT = Path(__file__).resolve().parents[2]
HANG_SECONDS = 100.0


@contextlib.contextmanager
def started(*args: str, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, running, and the address that it printed first."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
    with subprocess.Popen([*PYJAMA, *args], **settings) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            address = re.search(r"http://\S+", line)
            assert address, (line, child.stderr.read() if child.stderr else "")
            yield child, address[0]
        finally:
            child.kill()
            child.wait()


def api_data(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address.rstrip('/')}/api/data", timeout=HANG_SECONDS) as answer:
        return json.load(answer)  # type: ignore[no-any-return]  # json gives Any


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.11"\ndependencies = ["pydantic"]\n')
    (root / "broken.py").write_text("def (")
    return root


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_demo_that_runs_once_shows_every_ending_and_ends_well(project: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [*PYJAMA, "demo", str(project), "--once", "--port", "0"],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    data = get_dashboard_data()
    assert {name: agent.status for name, agent in data.agents.items()} == {
        "software-versions": "completed",
        "dependency-audit": "completed",
        "nightly-report": "failed",
        "release-notes": "crashed",
    }
    assert data.agents["software-versions"].runs.completed == 2
    (killed,) = (session for session in data.sessions.values() if session.status == "crashed")
    assert [call.tool for call in killed.interrupted] == ["ask_model"]
    assert data.metrics.tools["write_file"].error == 1
    assert re.search(r"^  release-notes +crashed +killed in ask_model$", done.stdout, re.MULTILINE)
    assert list(scratch.iterdir()) == []


def test_the_demo_serves_its_agents_and_ends_with_ctrl_c(project: Path, own_store: Path) -> None:
    with started("demo", str(project), "--port", "0") as (child, address):
        assert child.stdout is not None
        assert any("until Ctrl-C" in line for line in child.stdout)
        served = {name: agent["status"] for name, agent in api_data(address)["agents"].items()}
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=HANG_SECONDS)
        assert (child.returncode, errors) == (130, "")
    assert set(served.values()) == {"completed", "failed", "crashed"}


def test_a_demo_that_is_terminated_takes_its_agents_with_it(project: Path) -> None:
    with started("demo", str(project), "--port", "0") as (child, _):
        assert child.stdout is not None
        assert any("completed" in line for line in child.stdout)  # then all agents have begun
        child.terminate()
        child.communicate(timeout=HANG_SECONDS)
        assert child.returncode == 143
    assert all(session.status != "running" for session in get_dashboard_data().sessions.values())


def test_the_demo_refuses_what_is_not_a_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYJAMA, "demo", str(tmp_path / "nowhere")], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"pyjama: .*nowhere is not a directory.*\n", done.stderr)


def test_the_demo_refuses_to_run_where_recording_is_switched_off() -> None:
    env = {**os.environ, "PYJAMA_DISABLED": "1"}
    done = subprocess.run([*PYJAMA, "demo"], env=env, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "PYJAMA_DISABLED" in done.stderr


def test_the_demo_works_from_an_installed_copy(tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(
        ROOT / "pyjama_instrument", site / "pyjama_instrument", ignore=shutil.ignore_patterns("__pycache__")
    )
    bundled = site / "pyjama_instrument" / "_examples"
    bundled.mkdir(exist_ok=True)
    for name in ("codebase_analyzer.py", "software_manifests.py"):
        shutil.copy(ROOT / "examples" / name, bundled)
    done = subprocess.run(
        [*PYJAMA, "demo", "--once", "--port", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"analyse {site / 'pyjama_instrument'}." in done.stdout


def test_the_dashboard_prints_its_address_and_serves_the_store_it_was_given(tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    subprocess.run([*PYJAMA, "run", "--home", str(home), "--agent", "over-there", "--", "true"], check=True)
    with started("dashboard", "--port", "0", "--home", str(home)) as (_, address):
        assert set(api_data(address)["agents"]) == {"over-there"}


def test_the_dashboard_ends_quietly_with_130_on_ctrl_c() -> None:
    with started("dashboard", "--port", "0") as (child, _):
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=HANG_SECONDS)
        assert (child.returncode, errors) == (130, "")


@pytest.mark.parametrize("command", ["dashboard", "demo"])
def test_a_port_that_is_taken_is_one_helpful_line_and_2(taken_port: int, command: str) -> None:
    done = subprocess.run(
        [*PYJAMA, command, "--port", str(taken_port)], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"pyjama: .*{taken_port}.*\n", done.stderr)


# -- for other machines

TOKEN = "a-token-of-at-least-22-characters"


def _answer(address: str, token: str = "") -> int:
    request = urllib.request.Request(f"{address}api/data", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:  # it holds the answer, and with it the connection
            return refused.code


def test_a_terminal_gets_the_token_of_a_dashboard_for_other_machines() -> None:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen([*PYJAMA, "dashboard", "--port", "0", "--host", "0.0.0.0"], stdout=theirs) as child:
            shown = b""
            while b"Ctrl-C" not in shown:
                shown += os.read(ours, 1000)
            child.send_signal(signal.SIGINT)
            assert child.wait(HANG_SECONDS) == 130
    finally:
        os.close(ours)
        os.close(theirs)
    address = re.search(r"http://(\S+):\d+/\?token=(\S+)", shown.decode())
    assert address is not None
    assert address[1] == socket.gethostname()
    assert len(address[2]) >= 22


def test_a_file_never_gets_the_token_of_a_dashboard_for_other_machines() -> None:
    done = subprocess.run(
        [*PYJAMA, "dashboard", "--port", "0", "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"pyjama: .*PYJAMA_TOKEN.*\n", done.stderr)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_token_of_one_s_own_is_asked_for_and_not_shown(host: str) -> None:
    env = {**os.environ, "PYJAMA_TOKEN": TOKEN}
    with started("dashboard", "--port", "0", "--host", host, env=env) as (child, address):
        here = re.sub(r"//.+:", "//127.0.0.1:", address)
        assert [_answer(here), _answer(here, "x" + TOKEN), _answer(here, TOKEN)] == [401, 401, 200]
        child.send_signal(signal.SIGINT)
        assert TOKEN not in address + "".join(child.communicate(timeout=HANG_SECONDS))


@pytest.mark.parametrize("settings", [("no-such-address", TOKEN), ("0.0.0.0", "password")])
def test_a_bad_host_or_token_is_one_helpful_line_and_2(settings: tuple[str, str]) -> None:
    host, token = settings
    done = subprocess.run(
        [*PYJAMA, "dashboard", "--port", "0", "--host", host],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
        env={**os.environ, "PYJAMA_TOKEN": token},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"pyjama: .+\n", done.stderr)
