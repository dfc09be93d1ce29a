"""One thread at a time, whatever interrupts it."""

from __future__ import annotations

import signal
import threading

import pytest

from pyjama_instrument.threads.bounded_lock import BoundedLock

HANG_SECONDS = 30.0


class Stuck:
    """Another thread that has its turn for as long as the block lasts."""

    def __init__(self, turn: BoundedLock) -> None:
        self._has_it, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=turn.take, args=(self._hold,))

    def _hold(self) -> None:
        self._has_it.set()
        self._done.wait(HANG_SECONDS)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._has_it.wait(HANG_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_a_turn_can_be_taken_within_a_turn_and_ends_with_the_outermost() -> None:
    ends: list[bool] = []
    turn = BoundedLock(lambda ended: ends.append(ended.is_mine()))
    turn.take(lambda: (turn.take(lambda: None), ends.append(False)))
    assert ends == [False, True]
    assert not turn.is_taken()


def test_an_exception_ends_the_turn() -> None:
    turn = BoundedLock()
    with pytest.raises(ZeroDivisionError):
        turn.take(lambda: 1 / 0)  # type: ignore[arg-type,return-value]  # for what it raises
    assert not turn.is_taken()


def test_threads_take_turns() -> None:
    turn, inside, most = BoundedLock(), 0, 0

    def enter() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.0001)
        inside -= 1

    threads = [threading.Thread(target=lambda: [turn.take(enter) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert (most, inside) == (1, 0)


def test_it_is_known_whose_turn_it_is() -> None:
    turn = BoundedLock()
    mine: list[bool] = []
    turn.take(lambda: mine.append(turn.is_mine()))
    assert mine == [True]
    with Stuck(turn):
        assert turn.is_taken()
        assert not turn.is_mine()


def test_nobody_waits_twice_for_a_turn_that_was_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []
    monkeypatch.setattr("pyjama_instrument.threads.bounded_lock._pause", pauses.append)
    turn = BoundedLock()
    assert turn.wait()
    with Stuck(turn):
        assert not turn.wait()
        waited = len(pauses)
        assert waited
        assert not turn.wait()
        assert len(pauses) == waited
    with Stuck(turn):
        assert not turn.wait()
        assert len(pauses) == 2 * waited


def test_a_signal_s_exception_anywhere_leaves_no_turn_taken() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    turn, interrupted, number = BoundedLock(), 0, 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while interrupted < 500:
            number += 1
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + number % 50 * 0.000002)
                while True:
                    turn.take(turn.is_mine)  # type: ignore[arg-type]  # what it returns is not used
            except Interrupted:
                interrupted += 1
            assert not turn.is_taken()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
