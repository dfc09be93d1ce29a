"""Whether this is still the process that it was."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable

import pytest

from pyjama_instrument._fork_detection import fork_marker


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["by Python", "in C"])
@pytest.mark.parametrize("wipes", [True, False], ids=["wiped", "asked"])
def test_a_mark_is_gone_in_a_forked_child_which_can_set_its_own(
    fork: Callable[[], int], wipes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not wipes:
        monkeypatch.delattr(mmap, "mmap")
    mark = fork_marker()
    assert mark[0] == 0
    mark[0] = 1
    assert mark[0] == 1
    if (pid := fork()) == 0:
        seen = mark[0]
        mark[0] = 1
        os._exit(10 * seen + mark[0])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert mark[0] == 1
