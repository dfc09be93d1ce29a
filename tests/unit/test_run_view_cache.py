"""What a page with some version of a session is sent."""

from __future__ import annotations

from typing import Any

from pyjama_instrument.document import SessionTree, Span
from pyjama_instrument.viewer.run_view_cache import MAX_OPEN, RunViewCache
from tests.viewer.fakes import NOW, run_of, tree_of


def tree(*names: str, number: int = 1, **fields: Any) -> SessionTree:
    return tree_of(number, run_of(**fields), *(Span(name=name, span=name, status="ok") for name in names))


def names(answer: dict[str, Any]) -> list[str]:
    return [row[3] for row in answer["rows"]]


def test_all_at_first_and_then_what_has_changed() -> None:
    sessions = RunViewCache()
    first = sessions.view(tree("a"), {}, NOW, "")
    assert (first["full"], names(first), first["head"]["agent"]) == (True, ["agent", "a"], "agent")
    second = sessions.view(tree("a", "b"), {}, NOW, first["version"])
    assert (second["full"], names(second), second["head"]) == (False, ["b"], None)


def test_a_head_that_changed_is_sent_without_any_rows() -> None:
    sessions = RunViewCache()
    first = sessions.view(tree("a"), {}, NOW, "")
    second = sessions.view(tree("a", calls=3), {}, NOW, first["version"])
    assert (names(second), second["head"]["tiles"][0]["value"]) == ([], "3")


def test_each_page_is_sent_what_it_lacks() -> None:
    sessions = RunViewCache()
    early = sessions.view(tree("a"), {}, NOW, "")["version"]
    late = sessions.view(tree("a", "b"), {}, NOW, "")["version"]
    assert names(sessions.view(tree("a", "b", "c"), {}, NOW, early)) == ["b", "c"]
    assert names(sessions.view(tree("a", "b", "c"), {}, NOW, late)) == ["c"]


def test_a_tree_that_lost_spans_is_sent_in_full() -> None:
    sessions = RunViewCache()
    version = sessions.view(tree("a", "b"), {}, NOW, "")["version"]
    answer = sessions.view(tree("b"), {}, NOW, version)
    assert (answer["full"], names(answer)) == (True, ["agent", "b"])


def test_a_page_from_before_a_restart_is_sent_everything() -> None:
    version = RunViewCache().view(tree("a"), {}, NOW, "")["version"]
    answer = RunViewCache().view(tree("a"), {}, NOW, version)
    assert (answer["full"], names(answer), answer["head"] is None) == (True, ["agent", "a"], False)


def test_a_session_that_was_forgotten_is_sent_in_full() -> None:
    sessions = RunViewCache()
    version = sessions.view(tree("a"), {}, NOW, "")["version"]
    for number in range(2, 2 + MAX_OPEN):
        sessions.view(tree(number=number), {}, NOW, "")
    assert sessions.view(tree("a"), {}, NOW, version)["full"]


def test_a_session_inside_that_changed_is_sent() -> None:
    sessions, outer = RunViewCache(), tree("a")
    outer.child_sessions = ["c" * 32]
    first = sessions.view(outer, {"c" * 32: run_of("inner")}, NOW, "")
    assert names(first) == ["agent", "a", "inner"]
    same = sessions.view(outer, {"c" * 32: run_of("inner")}, NOW, first["version"])
    assert names(same) == []
    ended = sessions.view(outer, {"c" * 32: run_of("inner", "failed")}, NOW, first["version"])
    assert [(row[3], row[5]) for row in ended["rows"]] == [("inner", "failed")]
