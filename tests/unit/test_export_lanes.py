"""Lanes: whatever the times of the spans, those of one lane are apart or inside each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.document import SessionSummary, Span
from pyjama_instrument.export.lanes import Slice, lay_out

RUN = SessionSummary(status="running", last_seen=2)


def span(begin_us: int, ms: float | None, *children: Span, status: str = "ok") -> Span:
    return Span(start_us=begin_us, duration_ms=ms, status="running" if ms is None else status, children=[*children])


_LEAVES = st.builds(span, st.integers(0, 3000), st.none() | st.floats(0, 3))
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.builds(
        lambda begin, ms, children: span(begin, ms, *children),
        st.integers(0, 3000),
        st.none() | st.floats(0, 3),
        st.lists(inner, max_size=5),
    ),
    max_leaves=25,
)


def count(root: Span) -> int:
    return 1 + sum(map(count, root.children))


def well_nested(slices: list[Slice]) -> bool:
    for at, one in enumerate(slices):
        for other in slices[at + 1 :]:
            if one.lane != other.lane:
                continue
            end, other_end = one.end or 2**70, other.end or 2**70
            apart = end <= other.begin or other_end <= one.begin
            inside = (one.begin <= other.begin and other_end <= end) or (other.begin <= one.begin and end <= other_end)
            if not (apart or inside):
                return False
    return True


@given(_TREES)
def test_slices_of_one_lane_nest(root: Span) -> None:
    slices = lay_out(root, RUN)
    assert len(slices) == count(root)
    assert well_nested(slices)
    assert all(each.end is None or each.begin <= each.end for each in slices)


def test_calls_one_after_the_other_share_the_lane_of_their_parent() -> None:
    root = span(0, 10.0, *[span(1000 * n, 1.0) for n in range(9)])
    assert {each.lane for each in lay_out(root, RUN)} == {0}


def test_a_lane_that_is_free_again_is_used_again() -> None:
    root = span(0, 10.0, span(0, 2.0), span(500, 2.0), span(4000, 2.0), span(4500, 2.0))
    assert [each.lane for each in lay_out(root, RUN)] == [0, 0, 1, 0, 1]


def test_clocks_that_disagree_by_microseconds_do_not_open_a_lane() -> None:
    root = span(1000, 1.0, span(999, 0.5), span(1499, 0.503))
    slices = lay_out(root, RUN)
    assert {each.lane for each in slices} == {0}
    assert well_nested(slices)


def test_a_call_that_outlives_its_caller_has_a_lane_of_its_own() -> None:
    assert [each.lane for each in lay_out(span(0, 1.0, span(500, 5.0)), RUN)] == [0, 1]


def test_a_root_whose_begin_is_not_known_begins_with_its_first_child() -> None:
    assert lay_out(span(0, None, span(7000, 1.0)), RUN)[0].begin == 7_000_000
