"""How far a segment was read survives being stored."""

from __future__ import annotations

import pytest

from pyjama_instrument.storage.position import Position


@pytest.mark.parametrize(
    "position",
    [Position(), Position(7), Position(7, torn=2), Position(7, 1, sealed=True), Position(9, 1, skipping=True)],
)
def test_a_position_survives_being_stored(position: Position) -> None:
    assert Position.load(position.dump()) == position


@pytest.mark.parametrize(
    "stored", [None, [], "7", {}, {"offset": "7"}, {"offset": -1}, {"offset": True}, {"offset": 1.5}]
)
def test_a_position_that_makes_no_sense_is_the_beginning(stored: object) -> None:
    assert Position.load(stored) == Position()
