"""Looking back: records by time, newest first, over all segments, with bounded work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.reader import Reader
from pyjama_instrument.storage import history_search
from pyjama_instrument.storage.history_search import SearchResult, look_back
from tests.stores import START_US, Writer, a_call, fold


def anything(record: dict[str, Any]) -> bool:
    return record.get("kind") == "tool.ended"


def call_at(us: int, tool: str = "t") -> dict[str, Any]:
    return a_call(tool) | {"ts": START_US + us}


def places(store: Path) -> list[str]:
    return [str(store / "journal"), str(store / "history")]


def tools(past: SearchResult) -> list[str]:
    return [found.record["tool"] for found in past.found]


def walk(store: Path, limit: int, **options: Any) -> list[str]:
    """All there is, page by page."""
    seen, before = [], None
    while True:
        past = look_back(places(store), anything, before=before, limit=limit, **options)
        seen += [found.key for found in past.found]
        if past.reached is None:
            return seen
        assert before is None or past.reached < before
        before = past.reached


def test_records_of_all_writers_come_newest_first(own_store: Path) -> None:
    first, second = Writer(own_store), Writer(own_store)
    first.write(call_at(1, "a"), call_at(4, "d"))
    second.write(call_at(2, "b"), call_at(3, "c"))
    assert tools(look_back(places(own_store), anything)) == ["d", "c", "b", "a"]
    first.die()
    second.die()


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("budget", [1, 20_000])
def test_page_by_page_everything_is_found(own_store: Path, limit: int, budget: int) -> None:
    writers = [Writer(own_store) for _ in range(3)]
    for at in range(150):
        writers[at % 3].write(call_at(at * 1000, "x" * (at % 40)))
    seen = walk(own_store, limit, budget_bytes=budget)
    assert len(set(seen)) == 150  # after a look that was cut short one may come again; its key says so
    assert len(seen) < 200
    for writer in writers:
        writer.die()


def test_segments_in_the_history_are_looked_at_too(own_store: Path) -> None:
    old = Writer(own_store)
    old.write(call_at(1, "old"))
    old.die()
    fold(own_store)
    fold(own_store)
    assert os.listdir(own_store / "history")
    new = Writer(own_store)
    new.write(call_at(2, "new"))
    assert [found.record["tool"] for found in Reader(own_store).look_back(anything).found] == ["new", "old"]
    new.die()


def test_what_is_older_than_asked_for_is_left_out(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(*(call_at(at, f"t{at}") for at in range(10)))
    assert tools(look_back(places(own_store), anything, after=START_US + 7)) == ["t9", "t8", "t7"]
    assert tools(look_back(places(own_store), anything, before=(START_US + 2, ""))) == ["t1", "t0"]
    writer.die()


def test_the_torn_tail_and_damaged_lines_are_passed_over(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(call_at(1, "a"))
    writer.raw(b'{"half\n\n[1]\n{"kind":"tool.ended","ts":"x"}\n')
    writer.write(call_at(2, "b"))
    writer.raw(b'{"kind":"tool.ended","ts":3')
    assert tools(look_back(places(own_store), anything)) == ["b", "a"]
    writer.die()


def test_a_rare_match_is_looked_for_within_the_budget_and_found_by_going_on(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(call_at(0, "rare"), *(call_at(1 + at) for at in range(2000)))

    def rare(record: dict[str, Any]) -> bool:
        return record.get("tool") == "rare"

    looks, before = 0, None
    while True:
        past = look_back(places(own_store), rare, before=before, budget_bytes=50_000)
        looks += 1
        if past.found or past.reached is None:
            break
        before = past.reached
    assert tools(past) == ["rare"]
    assert looks > 3
    writer.die()


def test_damage_longer_than_any_record_does_not_stop_the_look(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_search, "MAX_RECORD_BYTES", 1024)
    writer = Writer(own_store)
    writer.write(call_at(1, "a"))
    writer.raw(b"\0" * 50_000 + b"\n")
    writer.write(call_at(2, "b"))
    assert tools(look_back(places(own_store), anything)) == ["b", "a"]
    writer.die()


def test_a_store_that_is_not_there_holds_nothing(own_store: Path) -> None:
    assert look_back(places(own_store), anything) == SearchResult([], None)


def test_the_buckets_of_a_tool_are_given(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(call_at(1, "a"), call_at(2, "a"))
    reader = Reader(own_store)
    assert sum(reader.latency("a").values()) == 2
    assert reader.latency("unknown") == {}
    writer.die()
