"""The dashboard data as JSON."""

from __future__ import annotations

import json

import pytest

from pyjama_instrument.document import SessionSummary, SessionTree, Span

DEPTH = 3000


def tree_of(*children: Span) -> SessionTree:
    return SessionTree(id="a" * 32, session=SessionSummary(agent_id="agent"), root=Span(children=list(children)))


def deep() -> SessionTree:
    span = Span(name="leaf")
    for _ in range(DEPTH):
        span = Span(name="recurse", children=[span])
    return tree_of(span)


@pytest.fixture
def tree() -> SessionTree:
    newer = Span.model_validate({"name": "c", "of-a-newer-version": 1})
    return tree_of(Span(name="a", children=[Span(name="b"), newer]), Span(name="d", result=[1], arguments={"q": None}))


def test_a_tree_is_the_same_json_as_pydantics(tree: SessionTree) -> None:
    assert json.loads(tree.to_json()) == tree.model_dump(mode="json", by_alias=True)
    assert tree.to_dict() == tree.model_dump(mode="json", by_alias=True)


def test_a_tree_comes_back_from_its_json(tree: SessionTree) -> None:
    assert SessionTree.model_validate_json(tree.to_json()) == tree


def test_a_tree_thousands_deep_is_valid_json() -> None:
    text = deep().to_json()
    assert text.count("{") == text.count("}")
    assert text.count('"recurse"') == DEPTH


def test_a_tree_thousands_deep_becomes_a_dictionary() -> None:
    span, depth = deep().to_dict()["root"], 0
    while span["children"]:
        (span,), depth = span["children"], depth + 1
    assert (span["name"], depth) == ("leaf", DEPTH + 1)


def test_what_json_does_not_know_is_null_and_what_is_no_unicode_is_kept() -> None:
    tree = tree_of(Span(name="\udcff", result=float("nan")))
    tree.session.attributes = {"file": "\udcff", "nan": float("nan")}
    shown = json.loads(tree.to_json())
    assert (shown["root"]["children"][0]["name"], shown["root"]["children"][0]["result"]) == ("\udcff", None)
    assert shown["session"]["attributes"] == {"file": "\udcff", "nan": None}
