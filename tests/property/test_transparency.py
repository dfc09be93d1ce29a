"""A decorated function cannot be told from the plain one, whatever it does and whatever is done to it.

Functions are generated as little programs and run twice, decorated and plain: the logs must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyjama_instrument import current_session
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.storage import compaction
from tests.property.programs import (
    ACTIONS,
    DECORATED,
    DECORATORS,
    PROGRAMS,
    Action,
    Op,
    driven_async_generator,
    driven_coroutine,
    driven_generator,
    hooked,
    obeys_close,
    observed,
    undecorated,
)
from tests.scale import full

# The flusher imports it when it first folds, and pytest rewrites it then: two threads may not parse at once in 3.11.
assert compaction

_values = st.integers(0, 9)


@pytest.fixture(autouse=True)
def _hooks() -> Iterator[None]:
    with hooked():
        yield


@settings(max_examples=full(2000, 200))
@given(decorator=DECORATED, program=PROGRAMS)
def test_plain_functions(decorator: str, program: tuple[Op, ...]) -> None:
    assert observed(DECORATORS[decorator], program) == observed(undecorated, program)
    assert recorder.in_flight == {}
    assert current_session() is None


@settings(max_examples=full(2000, 200))
@given(decorator=DECORATED, program=PROGRAMS, actions=ACTIONS)
def test_generators(decorator: str, program: tuple[Op, ...], actions: list[Action]) -> None:
    observed = driven_generator(DECORATORS[decorator], program, actions)
    assert observed == driven_generator(undecorated, program, actions)
    assert recorder.in_flight == {}
    assert current_session() is None


@settings(max_examples=full(2000, 200))
@given(decorator=DECORATED, program=PROGRAMS.filter(obeys_close), actions=ACTIONS)
def test_coroutines(decorator: str, program: tuple[Op, ...], actions: list[Action]) -> None:
    observed = driven_coroutine(DECORATORS[decorator], program, actions)
    assert observed == driven_coroutine(undecorated, program, actions)
    assert recorder.in_flight == {}


@settings(max_examples=full(2000, 200))
@given(decorator=DECORATED, program=PROGRAMS, actions=ACTIONS)
def test_async_generators(decorator: str, program: tuple[Op, ...], actions: list[Action]) -> None:
    observed = driven_async_generator(DECORATORS[decorator], program, actions)
    assert observed == driven_async_generator(undecorated, program, actions)
    assert current_session() is None


@settings(max_examples=full(2000, 200))
@given(
    decorator=DECORATED,
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.text(min_size=1) | st.sampled_from(["self", "args", "wrapped", "instance"]), _values),
)
def test_arguments_arrive_as_they_were_given(decorator: str, args: list[int], kwargs: dict[str, int]) -> None:
    def work(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert DECORATORS[decorator](work)(*args, **kwargs) == (tuple(args), kwargs)
