"""Only one thread at a time holds the lock, whatever interrupts it."""

from __future__ import annotations

import signal
import threading

import pytest

from pyjama_instrument.threads.bounded_lock import BoundedLock

HANG_SECONDS = 30.0


class Stuck:
    """Another thread that holds the lock while the block runs."""

    def __init__(self, lock: BoundedLock) -> None:
        self._has_it, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lock.run, args=(self._hold,))

    def _hold(self) -> None:
        self._has_it.set()
        self._done.wait(HANG_SECONDS)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._has_it.wait(HANG_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_a_thread_may_take_the_lock_again_and_releases_it_with_the_outermost_call() -> None:
    ends: list[bool] = []
    lock = BoundedLock(lambda ended: ends.append(ended.is_mine()))
    lock.run(lambda: (lock.run(lambda: None), ends.append(False)))
    assert ends == [False, True]
    assert not lock.is_held()


def test_an_exception_releases_the_lock() -> None:
    lock = BoundedLock()
    with pytest.raises(ZeroDivisionError):
        lock.run(lambda: 1 / 0)  # type: ignore[arg-type,return-value]  # for what it raises
    assert not lock.is_held()


def test_only_one_thread_at_a_time_holds_the_lock() -> None:
    lock, inside, most = BoundedLock(), 0, 0

    def enter() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.0001)
        inside -= 1

    threads = [threading.Thread(target=lambda: [lock.run(enter) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert (most, inside) == (1, 0)


def test_a_thread_knows_whether_it_holds_the_lock() -> None:
    lock = BoundedLock()
    mine: list[bool] = []
    lock.run(lambda: mine.append(lock.is_mine()))
    assert mine == [True]
    with Stuck(lock):
        assert lock.is_held()
        assert not lock.is_mine()


def test_no_thread_waits_again_for_a_holder_that_was_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []
    monkeypatch.setattr("pyjama_instrument.threads.bounded_lock._pause", pauses.append)
    lock = BoundedLock()
    assert lock.wait()
    with Stuck(lock):
        assert not lock.wait()
        waited = len(pauses)
        assert waited
        assert not lock.wait()
        assert len(pauses) == waited
    with Stuck(lock):
        assert not lock.wait()
        assert len(pauses) == 2 * waited


def test_the_exception_of_a_signal_handler_anywhere_leaves_the_lock_free() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    lock, interrupted, number = BoundedLock(), 0, 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while interrupted < 500:
            number += 1
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + number % 50 * 0.000002)
                while True:
                    lock.run(lock.is_mine)  # type: ignore[arg-type]  # what it returns is not used
            except Interrupted:
                interrupted += 1
            assert not lock.is_held()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
