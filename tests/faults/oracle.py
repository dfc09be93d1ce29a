"""The oracle of every fault test: what the processes acknowledged = what is counted + what is reported as dropped.

A process acknowledges a call once the decorated function has returned to it, by 8 bytes in a file of its own (a
*ledger*) outside the store. After the faults the calls acknowledged are compared with those counted, by the reader and
by the snapshot, and with those that the store itself says were dropped. Where calls carry numbers of their own, they
are matched one to one, so that a loss cannot hide behind a double count.

A kill between the record and the acknowledgement leaves one call per thread that is recorded and not acknowledged:
``cut_off`` says how many of them there may be. It is 0 where nobody is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Balance", "Ledger", "all_numbers", "balance", "numbers_recorded", "settle"]


class Ledger:
    """Where one thread of one process acknowledges its calls."""

    def __init__(self, path: Path | str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def acknowledge(self, number: int) -> None:
        """The call of that number has returned."""
        data = number.to_bytes(8)  # 8 bytes in an aligned place never span two pages: whole or not at all
        if os.write(self._fd, data) != 8:
            raise OSError("the ledger cannot be written, so the test says nothing")


@dataclass(frozen=True)
class Balance:
    """Calls acknowledged, counted by the reader and by the snapshot, and reported as dropped; and records torn."""

    acknowledged: int
    counted: int
    snapshot: int
    dropped: int
    torn: int

    @property
    def lost(self) -> int:
        """Acknowledged, and neither counted nor reported."""
        return max(0, self.acknowledged - self.counted - self.dropped)

    @property
    def doubled(self) -> int:
        """Counted or reported, and never acknowledged. At most what kills have cut off."""
        return max(0, self.counted + self.dropped - self.acknowledged)

    def check(self, *, cut_off: int = 0) -> None:
        """The equation holds, and the reader and the snapshot agree."""
        assert self.counted == self.snapshot, self
        assert self.lost == 0, self
        assert self.doubled <= cut_off, self


def balance(home: Path | str, acknowledged: int) -> Balance:
    """Strike the balance of a store to which nobody writes any more. Folds what is left to fold."""
    from pyjama_instrument.reader import Reader
    from tests.stores import snapshot

    data = Reader(home).dashboard()
    settle(home)
    folded = snapshot(home)["global"].get("count", 0)
    dropped = sum(data.health.dropped.values())
    return Balance(acknowledged, data.metrics.global_.count, folded, dropped, data.health.torn)


def settle(home: Path | str) -> None:
    """Fold until there is nothing more to fold or to retire."""
    from tests.stores import fold

    for _ in range(100):
        if fold(home) == "current":
            return
    raise AssertionError("folding comes to no end")


def all_numbers(ledgers: Path) -> list[int]:
    """Every number acknowledged in the ledgers of a directory."""
    numbers = []
    for path in ledgers.iterdir():
        data = path.read_bytes()
        assert len(data) % 8 == 0, path
        numbers += [int.from_bytes(data[at : at + 8]) for at in range(0, len(data), 8)]
    return numbers


def numbers_recorded(home: Path) -> list[int]:
    """The numbers of all calls in all segments, those of the history too."""
    numbers = []
    for path in [*home.glob("journal/*.jsonl"), *home.glob("history/*.jsonl")]:
        for line in path.read_bytes().split(b"\n"):
            if line.startswith(b'{"kind":"tool.ended"'):
                with contextlib.suppress(ValueError, KeyError):  # torn, or a call without a number
                    numbers.append(int(json.loads(line)["arguments"]["number"]))
    return numbers
