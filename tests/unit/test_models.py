"""Models of the document are made anew only for what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyjama_instrument._models import Models
from pyjama_instrument.document import Counts
from pyjama_instrument.reader import Reader
from tests.stores import Writer, a_call, session_begins


def shape(entry: dict[str, Any]) -> dict[str, Any]:
    return {"count": entry["n"]}


def test_what_has_changed_is_made_anew_and_the_rest_is_kept() -> None:
    models, entries = Models(), {"a": {"n": 1}, "b": {"n": 1, "deep": [{"x": 1}]}}
    first = models.of(Counts, entries, shape)
    entries["a"]["n"] = 2  # changed in place, as a fold does
    second = models.of(Counts, entries, shape)
    assert (second["a"].count, second["b"].count) == (2, 1)
    assert second["b"] is first["b"]
    entries["b"]["deep"][0]["x"] = 2
    assert models.of(Counts, entries, shape)["b"] is not first["b"]


def test_what_is_gone_is_forgotten() -> None:
    models = Models()
    models.of(Counts, {"a": {"n": 1}}, shape)
    assert models.of(Counts, {}, shape) == {}
    assert models._known == {Counts: {}}


def test_a_reader_asked_again_says_the_same_as_a_new_one(own_store: Path) -> None:
    writer, reader = Writer(own_store), Reader(own_store)
    for record in (session_begins(), a_call("a"), a_call("b"), a_call("a")):
        writer.write(record)
        again, new = reader.dashboard(), Reader(own_store).dashboard()
        assert again.model_copy(update={"timestamp": 0}) == new.model_copy(update={"timestamp": 0})
    writer.die()
