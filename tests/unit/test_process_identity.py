"""Where a writer ran, and whether its process is known to be gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import tool
from pyjama_instrument.recording.settings import flush
from pyjama_instrument.storage import clock, process_identity
from pyjama_instrument.storage.process_identity import boot_and_pid_namespace, is_gone, shares_kernel
from tests.stores import snapshot

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def here(pid: int) -> dict[str, Any]:
    return {"pid": pid} | {key.replace("_", "-"): value for key, value in boot_and_pid_namespace().items()}


def a_pid_of_nobody() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


@linux
def test_a_process_of_this_kernel_and_namespace_that_no_longer_exists_is_gone() -> None:
    assert is_gone(here(a_pid_of_nobody()))


@linux
@pytest.mark.parametrize("pid", [pytest.param(os.getpid(), id="our own"), 1])
def test_a_process_that_exists_is_not_gone(pid: int) -> None:
    assert not is_gone(here(pid))


@linux
@pytest.mark.parametrize(
    "elsewhere", [{"boot-id": "another"}, {"pid-namespace": 1}, {"pid": None}, {"pid": -1}, {"pid": "1"}]
)
def test_nobody_of_elsewhere_is_ever_called_gone(elsewhere: dict[str, Any]) -> None:
    assert not is_gone(here(a_pid_of_nobody()) | elsewhere)


@linux
def test_a_writer_that_does_not_say_where_it_ran_is_never_called_gone() -> None:
    assert not is_gone({"pid": a_pid_of_nobody()})


def test_where_nothing_can_be_read_nothing_is_said_and_nobody_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = here(a_pid_of_nobody())
    monkeypatch.setattr(clock, "_boot", lambda: "")
    monkeypatch.setattr(process_identity, "_PID_NAMESPACE", "/no/such/place")
    assert boot_and_pid_namespace() == {}
    assert not is_gone(gone)
    assert not is_gone({"pid": gone["pid"]})
    assert not shares_kernel(gone)
    assert not shares_kernel({})


@linux
def test_a_journal_says_on_which_kernel_and_in_which_namespace_its_writer_runs(own_store: Path) -> None:
    tool(len)("pyjama")
    flush()
    (writer,) = snapshot(own_store)["writers"].values()
    namespace = int(os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]"))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (writer["boot-id"], writer["pid-namespace"]) == (boot, namespace)
    (session,) = snapshot(own_store)["sessions"].values()
    assert "boot-id" not in session
    assert session["pid"] == os.getpid()
