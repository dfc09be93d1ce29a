"""Counts by reason that need no lock."""

from __future__ import annotations

import threading

from pyjama_instrument.recording.counters import ReasonCounts


def test_what_was_told_is_not_told_again_and_what_was_taken_back_is() -> None:
    tally = ReasonCounts()
    assert tally.untold() == {}
    tally.add("ENOSPC")
    tally.add("EIO", 3)
    assert tally.untold() == {"ENOSPC": 1, "EIO": 3}
    tally.told("EIO", 3)
    assert tally.untold() == {"ENOSPC": 1}
    tally.told("EIO", -3)
    tally.add("EIO")
    assert tally.untold() == {"ENOSPC": 1, "EIO": 4}
    assert tally.total() == 5


def test_threads_that_count_while_another_tells_lose_nothing() -> None:
    tally, told = ReasonCounts(), 0
    threads = [threading.Thread(target=lambda: [tally.add("ENOSPC") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or tally.untold():
        for reason, count in tally.untold().items():
            tally.told(reason, count)
            told += count
    assert told == 20_000
