"""The workflow diagram: Mermaid text that stays valid whatever the names hold, and the page's own drawing."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.viewer.diagram import MAX_NODES, mermaid, workflow_layout
from pyjama_instrument.viewer.steps import StepState
from tests.viewer.fakes import HOSTILE

NODE = re.compile(r'    s(\d+)\["([^"\n]*)"\]:::(\w+)')
ENTITY = re.compile(r"#(\w+);")


def steps(*names: str, state: str = "done") -> list[StepState]:
    return [StepState(name, state, times=1) for name in names]


def labels(text: str) -> list[str]:
    """What Mermaid prints in the boxes: ``#59;`` and ``#quot;`` are its way to write HTML entities."""
    nodes = [NODE.fullmatch(line) for line in text.splitlines()]
    encoded = [node[2] for node in nodes if node]
    return [html.unescape(ENTITY.sub(lambda e: f"&{'#' if e[1].isdigit() else ''}{e[1]};", text)) for text in encoded]


def test_steps_become_nodes_joined_in_order_and_coloured_by_state() -> None:
    text = mermaid(
        [StepState("discover", "done", times=1), StepState("analyze", "running", times=1), StepState("x", "pending")]
    )
    assert text.splitlines()[:6] == [
        "flowchart LR",
        '    s0["discover"]:::done',
        '    s1["analyze"]:::running',
        '    s2["x"]:::pending',
        "    s0 --> s1",
        "    s1 --> s2",
    ]
    assert re.findall(r"classDef (\w+) ", text) == ["pending", "running", "done"]


def test_a_workflow_without_steps_is_a_valid_diagram() -> None:
    assert labels(mermaid([])) == ["no steps yet"]


def test_a_step_begun_several_times_says_so() -> None:
    assert labels(mermaid([StepState("loop", "done", times=3)])) == ["loop (x3)"]


def test_a_long_workflow_runs_downwards_and_is_cut_with_a_count() -> None:
    text = mermaid(steps(*(f"s{n}" for n in range(MAX_NODES + 5))))
    assert text.startswith("flowchart TD\n")
    assert labels(text)[-1] == "and 5 more"
    assert "classDef pending" in text


@pytest.mark.parametrize("name", ["write-file", "read_file", "v1.2", "a/b", "f(x), g", "عربي", "日本語", "👩\u200d👧"])
def test_ordinary_names_are_found_again_in_the_box(name: str) -> None:
    assert labels(mermaid(steps(name))) == [name]


@pytest.mark.parametrize("name", ["write-file", "read_file", "v1.2"])
def test_ordinary_names_stay_readable_in_the_text(name: str) -> None:
    assert f'["{name}"]' in mermaid(steps(name))


@pytest.mark.parametrize("name", ["1. list", "- list", "10) list", "_private_", "__init__"])
def test_what_markdown_would_eat_is_escaped(name: str) -> None:
    assert labels(mermaid(steps(name))) == [name]
    assert f'["{name}"]' not in mermaid(steps(name))


def test_direction_and_control_characters_are_replaced() -> None:
    assert labels(mermaid(steps("\u202egnp\x07"))) == ["\ufffdgnp\ufffd"]


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text()), max_size=12))
def test_no_name_gets_out_of_its_box(names: list[str]) -> None:
    text = mermaid(steps(*names))
    lines = text.split("\n")
    assert lines[-1] == ""
    shapes = (r"flowchart (LR|TD)", NODE.pattern, r"    s\d+ --> s\d+", r"    classDef \w+ [\w:#,\- ]+")
    assert all(any(re.fullmatch(shape, line) for shape in shapes) for line in lines[:-1])
    for node in filter(None, map(NODE.fullmatch, lines)):
        assert not set(ENTITY.sub("", node[2])) & set("#;:<>&`*~\\[]{}|%$@=")


@given(st.integers(0, MAX_NODES + 3))
def test_the_drawing_holds_all_its_boxes_apart_and_joins_them(number: int) -> None:
    plan = workflow_layout(steps(*(f"step {n}" for n in range(number))))
    width, height = plan["box"]
    places = {(node["x"], node["y"]) for node in plan["nodes"]}
    assert len(places) == len(plan["nodes"]) == min(number, MAX_NODES)
    assert plan["more"] == max(number - MAX_NODES, 0)
    assert all(x + width <= plan["width"] and y + height <= plan["height"] for x, y in places)
    assert len(plan["edges"]) == max(len(plan["nodes"]) - 1, 0)


def test_a_name_too_long_for_its_box_is_cut_and_whole_in_the_title() -> None:
    (node,) = workflow_layout(steps("a step with a very long name indeed"))["nodes"]
    assert node["label"].endswith("…")
    assert node["title"] == "a step with a very long name indeed: done"
