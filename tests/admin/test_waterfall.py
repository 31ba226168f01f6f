"""The rectangles of a waterfall agree with the numbers of the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import body, phase
from tests.strategies import examples
from trajectories.admin import shape
from trajectories.admin.waterfall import Bar, Waterfall, layout

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def timed(name: str, start_s: float, seconds: float, **fields: Any) -> dict[str, Any]:
    at = (START + timedelta(seconds=start_s)).isoformat()
    return phase(phase_name=name, phase_id=name, started_at=at, duration_ms=seconds * 1000) | fields


def drawn(*phases: dict[str, Any], **fields: Any) -> tuple[Waterfall, dict[int, Bar]]:
    drawing = layout(body(phases=list(phases), **fields))
    return drawing, {bar.place: bar for bar in sorted(drawing.bars, key=lambda bar: bar.place)}


def test_a_bar_is_where_its_times_are() -> None:
    drawing, bars = drawn(timed("spec", 0, 10), timed("code", 10, 30), timed("test", 45, 5))
    assert (drawing.timing, drawing.span_us) == ("times", 50_000_000)
    assert [(bar.x, bar.width) for bar in bars.values()] == [(0, 20), (20, 60), (90, 10)]
    assert [bar.row for bar in bars.values()] == [0, 1, 2]


def test_the_axis_reaches_from_the_start_of_the_run_to_its_end() -> None:
    times = {"started_at": START.isoformat(), "ended_at": (START + timedelta(seconds=100)).isoformat()}
    _, bars = drawn(timed("spec", 10, 20), **times)
    assert (bars[0].x, bars[0].width) == (10, 20)


def test_siblings_that_overlap_get_lanes_of_their_own() -> None:
    _, bars = drawn(timed("a", 0, 10), timed("b", 10, 10), timed("c", 10, 5), timed("d", 16, 4), timed("e", 20, 1))
    assert [bar.lane for bar in bars.values()] == [0, 0, 1, 1, 0]
    assert [bar.is_parallel for bar in bars.values()] == [False, True, True, True, False]


def test_a_nested_phase_is_drawn_below_its_parent() -> None:
    _, bars = drawn(timed("whole", 0, 10), timed("after", 10, 1), timed("part", 2, 3, parent_phase_id="whole"))
    assert [(bar.row, bar.depth) for bar in bars.values()] == [(0, 0), (2, 0), (1, 1)]


def test_without_start_times_phases_are_laid_out_in_order_by_duration() -> None:
    drawing, bars = drawn(
        phase(phase_name="spec", duration_ms=1000), phase(phase_name="code", duration_ms=3000), phase(phase_name="end")
    )
    assert drawing.timing == "order"
    assert [(bar.x, bar.width) for bar in bars.values()] == [(0, 25), (25, 75), (100, 0)]


def test_without_start_times_phases_that_share_no_dependency_are_side_by_side() -> None:
    one = phase(phase_name="one", phase_id="one", duration_ms=1000)
    two = phase(phase_name="two", phase_id="two", duration_ms=3000, depends_on=["one"])
    three = phase(phase_name="three", phase_id="three", duration_ms=1000, depends_on=["one"])
    _, bars = drawn(one, two, three)
    assert [(bar.x, bar.width) for bar in bars.values()] == [(0, 25), (25, 75), (25, 25)]
    assert bars[2].is_parallel


def test_a_phase_without_a_start_begins_where_the_one_before_it_ended() -> None:
    drawing, bars = drawn(timed("spec", 0, 10), phase(phase_name="code", duration_ms=10_000))
    assert (drawing.timing, bars[1].is_placed, bars[1].x, bars[1].width) == ("some", False, 50, 50)


def test_a_skipped_phase_is_drawn_at_its_place_in_the_order() -> None:
    skipped = phase(phase_name="design", outcome="skipped", skip_reason="small")
    _, bars = drawn(timed("spec", 0, 10), skipped, timed("code", 10, 10))
    assert (bars[1].x, bars[1].width, bars[1].is_skipped, bars[1].is_critical) == (50, 0, True, False)


def test_the_critical_path_is_the_chain_that_decided_the_end() -> None:
    drawing, bars = drawn(
        timed("spec", 0, 10),
        timed("quick", 10, 5),
        timed("slow", 10, 30),
        timed("join", 40, 10, depends_on=["quick", "slow"]),
    )
    assert [bar.is_critical for bar in bars.values()] == [True, False, True, True]
    assert drawing.critical_us == 50_000_000


def test_a_feedback_loop_leads_back_to_the_run_before_it() -> None:
    loop = {"from_phase": "review", "to_phase": "code", "reason": "a missing test"}
    names = ("code", "review", "code", "review")
    drawing, _ = drawn(*(phase(phase_name=name, duration_ms=1000) for name in names), feedback_loops=[loop, loop])
    assert [(arrow.source.place, arrow.target.place) for arrow in drawing.arrows] == [(1, 0), (3, 2)]
    assert [(bar.run, bar.runs) for bar in drawing.bars] == [(1, 2), (1, 2), (2, 2), (2, 2)]


@pytest.mark.parametrize("span_s", [0.000004, 0.2, 7, 59, 4_000, 90_000, 4e7])
def test_ticks_are_few_and_within_the_axis(span_s: float) -> None:
    drawing, _ = drawn(timed("spec", 0, span_s))
    assert 2 <= len(drawing.ticks) <= 8
    assert all(tick.x == round(100 * tick.at_us / drawing.span_us, 3) <= 100 for tick in drawing.ticks)


_ids = st.sampled_from(["a", "b", "c", "d"])
_phases = st.lists(
    st.fixed_dictionaries(
        {"phase_name": _ids},
        optional={
            "phase_id": _ids,
            "parent_phase_id": _ids,
            "depends_on": st.lists(_ids, max_size=3),
            "duration_ms": st.integers(0, 10**13),
            "started_at": st.sampled_from(["2026-01-05T12:00:00Z", "2026-01-05T12:00:01Z", "0001-01-01T00:00:00Z"]),
            "ended_at": st.sampled_from(["2026-01-05T12:00:03Z", "9999-12-31T23:59:59Z"]),
            "outcome": st.sampled_from(["success", "skipped", "failure"]),
        },
    ),
    max_size=8,
)


@settings(max_examples=examples(50))
@given(_phases, st.lists(st.fixed_dictionaries({}, optional={"from_phase_id": _ids, "to_phase": _ids}), max_size=3))
def test_any_record_has_a_drawing_within_its_frame(phases: list[Any], loops: list[Any]) -> None:
    fields = body(phases=phases, feedback_loops=loops)
    drawing = layout(fields)
    assert sorted(bar.place for bar in drawing.bars) == list(range(len(phases)))
    assert [bar.row for bar in drawing.bars] == list(range(len(phases)))
    for bar in drawing.bars:
        assert 0 <= bar.x <= 100
        assert bar.width >= 0
        assert bar.end_x <= 100.01
    made = shape.graph(fields, drawing)
    assert len({(box.x, box.y) for box in made.boxes}) == len(phases)
    assert all(box.x + shape.BOX_WIDTH <= made.width and box.bottom <= made.height for box in made.boxes)


def test_the_graph_joins_lanes_where_they_end() -> None:
    phases = [timed("a", 0, 10), timed("b", 10, 5), timed("c", 10, 8), timed("d", 18, 2)]
    fields = body(phases=phases, feedback_loops=[{"from_phase_id": "d", "to_phase_id": "a"}])
    made = shape.graph(fields, layout(fields))
    assert [box.level for box in sorted(made.boxes, key=lambda box: box.bar.place)] == [0, 1, 1, 2]
    assert sorted(edge.kind for edge in made.edges) == ["loop", "then", "then", "then", "then"]
