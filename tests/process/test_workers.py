"""Workers that are gone without a word: idle ones have ended, one that was in a call has crashed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from pyjama_instrument.cli import main
from pyjama_instrument.document import DashboardData
from pyjama_instrument.reader import get_dashboard_data
from tests.conftest import RunPython
from tests.process.children import until


def _script(directory: Path, name: str, source: str) -> Path:
    path = directory / name
    path.write_text(source)
    return path


def _statuses(data: DashboardData | None = None) -> Counter[str]:
    return Counter(run.status for run in (data or get_dashboard_data()).sessions.values())


def _calls() -> int:
    return get_dashboard_data().metrics.global_.count


@contextlib.contextmanager
def _running(command: list[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "server.log").open("wb") as log, subprocess.Popen(
        command, cwd=directory, stdout=log, stderr=log, start_new_session=True
    ) as server:  # fmt: skip
        try:
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_FORKED = """
import os
from pyjama_instrument import agent_session, tool

@tool
def work(n): return n

@tool
def lasting(): os._exit(0)

{before}
for n in range(3):
    if os.fork() == 0:
        {inside}
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("before", ["", "work(0)"], ids=["forked before the first call", "forked after it"])
def test_an_idle_forked_process_that_is_gone_has_ended(run_python: RunPython, before: str) -> None:
    run_python(_FORKED.format(before=before, inside="work(n); work(n)"))
    data = get_dashboard_data()
    assert _statuses(data) == Counter({"ended": 3} | ({"completed": 1} if before else {}))
    assert _calls() == 6 + bool(before)
    assert (data.agents["python"].runs.ended, data.agents["python"].runs.crashed) == (3, 0)
    assert main(["status"]) == 0


def test_a_forked_process_that_is_gone_in_a_call_has_crashed_in_it(run_python: RunPython) -> None:
    run_python(_FORKED.format(before="", inside="work(n); lasting()"))
    data = get_dashboard_data()
    assert _statuses(data) == {"crashed": 3}
    assert {call.tool for run in data.sessions.values() for call in run.interrupted} == {"lasting"}


def test_a_session_that_a_forked_process_began_and_did_not_end_has_crashed(run_python: RunPython) -> None:
    run_python(_FORKED.format(before="", inside="agent_session('explicit').__enter__(); work(n)"))
    assert {run.status for run in get_dashboard_data().sessions.values() if not run.implicit} == {"crashed"}


def test_a_program_of_its_own_that_is_gone_without_a_word_has_crashed(run_python: RunPython, tmp_path: Path) -> None:
    source = "import os\nfrom pyjama_instrument import tool\ntool(abs)(1)\nos._exit(0)"
    program = str(_script(tmp_path, "program.py", source))
    run_python(Path(program))
    run_python(f"import os, sys\nif os.fork() == 0: os.execv(sys.executable, [sys.executable, {program!r}])\nos.wait()")
    subprocess.run(["sh", "-c", '("$0" "$1"; true) & wait', sys.executable, program], check=True)
    assert _statuses() == {"crashed": 3}


_POOL = """
import importlib, sys, warnings
from pyjama_instrument import tool

@tool
def work(n): return n

if __name__ == "__main__":
    # A pool forks the successors of its workers from one of its own threads.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    context = importlib.import_module(sys.argv[2]).get_context(sys.argv[1])
    with context.Pool(2, maxtasksperchild=2) as pool:  # leaving it terminates the workers
        assert pool.map(work, range(12), chunksize=1) == list(range(12))
"""


@pytest.mark.parametrize("package", ["multiprocessing", "multiprocess"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_recycled_workers_of_multiprocessing_leave_no_crash(
    run_python: RunPython, tmp_path: Path, method: str, package: str
) -> None:
    pytest.importorskip(package)
    if package == "multiprocess" and not hasattr(CodeType, "co_lnotab"):
        pytest.skip("dill, which multiprocess pickles with, cannot pickle functions on this Python yet")
    run_python(_script(tmp_path, "pool.py", _POOL), method, package)
    assert _calls() == 12
    assert _statuses().keys() <= {"completed", "ended"}


_CELERY = """
from celery import Celery
from celery.exceptions import Ignore
from pyjama_instrument import tool

app = Celery("app", broker="filesystem://")
folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.update(broker_transport_options=folders, worker_prefetch_multiplier=1)

@tool
def work(n): return n

@tool
def skipped(): raise Ignore

@app.task
def job(n): return work(n)

@app.task
def ignored(): skipped()
"""


def test_celery_with_recycled_workers_and_a_warm_shutdown_leaves_no_crash(tmp_path: Path) -> None:
    _script(tmp_path, "app.py", _CELERY)
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    send = "import app\nfor n in range(12): app.job.delay(n)\napp.ignored.delay()"
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, check=True, capture_output=True)
    options = ["--concurrency", "2", "--max-tasks-per-child", "3", "--without-gossip", "--without-mingle"]
    with _running([sys.executable, "-m", "celery", "-A", "app", "worker", *options], tmp_path) as worker:
        until(lambda: _calls() == 13)
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    data = get_dashboard_data()
    assert _statuses(data).keys() <= {"completed", "ended"}
    assert (data.metrics.tools["work"].success, data.metrics.tools["skipped"].cancelled) == (12, 1)
    assert data.metrics.global_.error == 0


_GUNICORN = """
from pyjama_instrument import tool

@tool
def work(): return b"ok"

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [work()]
"""


def test_gunicorn_with_recycled_workers_leaves_no_crash(tmp_path: Path) -> None:
    _script(tmp_path, "app.py", _GUNICORN)
    port = _free_port()
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "2", "--max-requests", "3"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers() -> bool:
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            return bool(answer.status == 200)
        return False

    with _running([sys.executable, "-m", "gunicorn", *options, "app:app"], tmp_path) as server:
        until(answers)
        answered = 1
        while answered < 16:
            answered += answers()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert _statuses().keys() <= {"completed", "ended"}
    assert _calls() == answered


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis server on this machine alone."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    port = _free_port()

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    with _running(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""], tmp_path):
        until(listens)
        yield f"redis://127.0.0.1:{port}"


def test_rq_whose_workers_fork_for_each_job_leaves_no_crash(tmp_path: Path, redis_url: str) -> None:
    _script(tmp_path, "jobs.py", "from pyjama_instrument import tool\n@tool\ndef work(n): return n\n")
    send = f"import jobs, redis, rq\nqueue = rq.Queue(connection=redis.Redis.from_url({redis_url!r}))\n"
    send += "for n in range(5): queue.enqueue(jobs.work, n)"
    work = f"import redis, rq\nrq.Worker(['default'], connection=redis.Redis.from_url({redis_url!r})).work(burst=True)"
    for source in (send, work):
        subprocess.run([sys.executable, "-c", source], cwd=tmp_path, check=True, capture_output=True, timeout=100)
    assert _calls() == 5
    assert _statuses() == {"ended": 5}


_KERNEL = """
import time
from pyjama_instrument import tool

@tool
def think():
    open("thinking", "w").close()
    for _ in range(1200): time.sleep(0.05)  # a signal that comes right before a sleep is noticed after it

think()
"""


def test_a_kernel_that_had_an_interrupted_cell_and_is_shut_down_has_not_failed(tmp_path: Path) -> None:
    manager_of = pytest.importorskip("jupyter_client.manager")
    manager, client = manager_of.start_new_kernel(kernel_name="python3", cwd=str(tmp_path), startup_timeout=100)
    try:
        cell = client.execute(_KERNEL)
        until(lambda: (tmp_path / "thinking").exists())
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != cell:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    data = get_dashboard_data()
    (run,) = data.sessions.values()
    assert (run.status, run.error) == ("completed", None)
    assert data.metrics.tools["think"].cancelled == 1
