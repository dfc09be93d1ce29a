"""A decorated callable can be pickled and copied as the callable can."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from pyjama_instrument import tool
from tests.unit import sample_tools
from tests.unit.callable_forms import FORMS, same
from tests.unit.recorded import call, calls

_BY_NAME = {
    "function": sample_tools.double,
    "coroutine function": sample_tools.double_later,
    "generator function": sample_tools.halves,
    "method of a class": sample_tools.Toolbox.times,
    "class method, decorator outside": sample_tools.Toolbox.made_outside,
    "class method, decorator inside": sample_tools.Toolbox.made_inside,
    "static method, decorator outside": sample_tools.Toolbox.static_outside,
    "static method, decorator inside": sample_tools.Toolbox.static_inside,
    "session function": sample_tools.nightly,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", _BY_NAME)
def test_what_has_a_name_is_pickled_by_that_name(thing: str, protocol: int) -> None:
    function = _BY_NAME[thing]
    if "class method" in thing:
        assert pickle.loads(pickle.dumps(function, protocol)) == function
    else:
        assert pickle.loads(pickle.dumps(function, protocol)) is function


def test_a_bound_method_is_pickled_with_its_object() -> None:
    again = pickle.loads(pickle.dumps(sample_tools.Toolbox(7).times))
    assert again(2) == 14
    assert call().tool == "Toolbox.times"


@pytest.mark.parametrize(
    ("decorated", "argument", "result"),
    [
        (sample_tools.decorated_by_hand, (1,), 2),
        (sample_tools.decorated_again, (2,), 4),
        (sample_tools.partial_tool, (), 8),
        (tool("count")(sample_tools.Counter()), (3,), 3),
    ],
    ids=["a function under another name", "decorated twice", "partial", "callable object"],
)
def test_what_has_no_name_of_its_own_is_pickled_by_what_it_wraps(
    decorated: Any, argument: tuple[Any, ...], result: int
) -> None:
    again = pickle.loads(pickle.dumps(decorated))
    assert again(*argument) == result
    assert calls()


def test_a_local_function_is_refused_by_pickle_as_undecorated() -> None:
    for decorate in (tool, same):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pickle.dumps(FORMS["function"](decorate))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("thing", _BY_NAME)
def test_a_copy_of_a_function_is_the_function(thing: str, copied: Callable[[Any], Any]) -> None:
    function = _BY_NAME[thing]
    assert copied(function) == function
    assert copied({"key": [function]}) == {"key": [function]}


def test_a_deep_copy_of_a_bound_method_has_an_object_of_its_own() -> None:
    box = sample_tools.Toolbox(2)
    again = copy.deepcopy(box.times)
    box.factor = 100
    assert again(3) == 6


def test_a_deep_copy_of_a_decorated_object_has_a_state_of_its_own() -> None:
    counter = tool(sample_tools.Counter())
    again = copy.deepcopy(counter)
    counter(5)
    assert again(1) == 1
    assert len(calls("Counter")) == 2
