"""Counts by reason that need no lock."""

from __future__ import annotations

import threading

from pyjama_instrument.recording.counters import ReasonCounts


def test_what_was_reported_is_not_reported_again_unless_that_is_undone() -> None:
    tally = ReasonCounts()
    assert tally.unreported() == {}
    tally.add("ENOSPC")
    tally.add("EIO", 3)
    assert tally.unreported() == {"ENOSPC": 1, "EIO": 3}
    tally.mark_reported("EIO", 3)
    assert tally.unreported() == {"ENOSPC": 1}
    tally.mark_reported("EIO", -3)
    tally.add("EIO")
    assert tally.unreported() == {"ENOSPC": 1, "EIO": 4}
    assert tally.total() == 5


def test_threads_that_count_while_another_reports_lose_nothing() -> None:
    tally, reported = ReasonCounts(), 0
    threads = [threading.Thread(target=lambda: [tally.add("ENOSPC") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or tally.unreported():
        for reason, count in tally.unreported().items():
            tally.mark_reported(reason, count)
            reported += count
    assert reported == 20_000
