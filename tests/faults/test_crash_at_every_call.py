"""Crash at every system call: of a first run, of recording, rotating, folding, retiring, clearing, recovering.

Whatever call the process dies in, the next one finds the old snapshot or a new one, counts what was acknowledged
exactly once, and leaves nothing behind.
"""

from __future__ import annotations

import shutil

import pytest

from tests.faults.every_call import report
from tests.faults.flows import FLOWS
from tests.scale import full


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.timeout(full(3600, 600))
def test_crash_before_and_after_each_call_loses_nothing_and_leaves_nothing(flow: str) -> None:
    found = report("crash", flow, every=full(1, 3))
    assert found["wrong"] == {}
    assert found["injections"] >= full(6, 1)


@pytest.mark.parametrize("flow", full(list(FLOWS), ["retire"]))
@pytest.mark.timeout(full(3600, 600))
def test_crash_in_the_kernel_s_own_calls_loses_nothing_and_leaves_nothing(flow: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace here: apt-get install strace")
    found = report("strace", flow, every=full(1, 12))
    assert found["wrong"] == {}
    assert found["injections"] >= full(4, 4)
