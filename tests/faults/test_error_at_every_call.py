"""Error at every system call, once and lasting: ENOSPC, EDQUOT, EIO, EROFS, EMFILE, EACCES, EINTR, short writes.

The user's function returns its value, every event that cannot be written is counted as dropped, and recording resumes
by itself at the first call after the fault has gone.
"""

from __future__ import annotations

import pytest

from tests.faults.every_call import report
from tests.faults.flows import FLOWS
from tests.scale import full


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.timeout(full(3600, 600))
def test_error_at_each_call_disturbs_nobody_and_every_event_is_accounted_for(flow: str) -> None:
    found = report("error", flow, every=full(1, 41))
    assert found["wrong"] == {}
    assert found["injections"] >= full(40, 1)
