"""Pictures and figures, as pure functions of numbers."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from django.utils.safestring import SafeString

from tests.text.injections import HARMLESS, INJECTIONS
from tests.text.markup import Markup
from trajectories.admin import cards, charts, figures
from trajectories.admin.charts import Layer, Point, Step

STEPS = [Step("1 Nov", "/a"), Step("2 Nov"), Step("3 Nov", "/c")]


def svg(drawn: SafeString) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def marks(drawn: SafeString, kind: str, tone: str) -> list[dict[str, float]]:
    """The numeric attributes of the marks of a kind and a class, in order."""
    found = [mark for mark in svg(drawn).iter(kind) if tone in mark.attrib["class"].split()]
    return [{name: float(text) for name, text in mark.attrib.items() if name != "class"} for mark in found]


def test_columns_are_as_high_as_their_values_and_stand_on_each_other() -> None:
    drawn = charts.columns(STEPS, [Layer("tj-one", "One", [4, None, 7]), Layer("tj-two", "Two", [4, 2, 0])], str)
    one, two = marks(drawn, "rect", "tj-one"), marks(drawn, "rect", "tj-two")
    # The axis ends at 8, 152 units above the baseline.
    assert [mark["height"] for mark in one] == pytest.approx([76, 133], abs=0.1)
    assert [mark["height"] for mark in two] == pytest.approx([76, 38], abs=0.1)
    assert two[0]["y"] + two[0]["height"] == pytest.approx(one[0]["y"], abs=0.1)
    assert [link.attrib["href"] for link in svg(drawn).iter("a")] == ["/a", "/c"]
    assert [title.text for title in svg(drawn).iter("title")] == ["1 Nov: One 4, Two 4", "2 Nov: Two 2", "3 Nov: One 7"]


def test_a_line_connects_over_unknown_values() -> None:
    drawn = charts.line(STEPS, [Layer("tj-one", "One", [0, None, 10])], str)
    (line,) = svg(drawn).iter("polyline")
    places = [tuple(map(float, place.split(","))) for place in line.attrib["points"].split()]
    assert [y for _, y in places] == [164, 12]
    assert len(marks(drawn, "circle", "tj-one")) == 2


def test_the_band_of_a_rate_goes_from_its_lower_to_its_upper_bound() -> None:
    rate, low, high = ([0.5, None, 0.5], [0.25, None, 0], [0.75, None, 1])
    drawn = charts.line(STEPS, [Layer("", "Rate", rate)], str, band=[Layer("", "low", low), Layer("", "high", high)])
    (band,) = svg(drawn).iter("polygon")
    assert [float(place.split(",")[1]) for place in band.attrib["points"].split()] == [126, 164, 12, 50]


def point(label: str, x: float, y: float) -> Point:
    return Point(label, x, y, max(0, y - 0.1), min(1, y + 0.1), f"title of {label}", f"/{label}")


def test_the_pareto_front_has_the_undominated_models() -> None:
    cheap, good, beaten, best = (
        point("cheap", 1, 0.5),
        point("good", 2, 0.7),
        point("beaten", 3, 0.6),
        point("best", 9, 0.9),
    )
    assert charts.front([beaten, best, good, cheap]) == [cheap, good, best]
    assert charts.front([point("a", 1, 0.5), point("dearer", 2, 0.5)]) == [point("a", 1, 0.5)]
    drawn = charts.scatter([cheap, good, beaten, best], str, str)
    assert len(marks(drawn, "circle", "tj-best")) == 3
    assert len(marks(drawn, "circle", "tj-other")) == 1


def test_labels_of_a_scatter_do_not_overlap() -> None:
    drawn = charts.scatter([point(f"claude-{number}", 1 + number / 1000, 0.5) for number in range(6)], str, str)
    heights = [float(mark.attrib["y"]) for mark in svg(drawn).iter("text") if mark.attrib["class"] == "tj-label"]
    assert all(one - other >= 14 for one, other in pairwise(heights))


@pytest.mark.parametrize("values", [[], [None, None, None], [0, 0, 0]])
def test_nothing_is_drawn_of_nothing(values: list[float | None]) -> None:
    steps, layers = STEPS[: len(values)], [Layer("tj-one", "One", values)]
    for drawn in (charts.columns(steps, layers, str), charts.line(steps, layers, str), charts.scatter([], str, str)):
        assert not [mark for mark in svg(drawn).iter("rect") if "tj-one" in mark.attrib["class"]]


def pictured(text: str) -> str:
    label = figures.label(text)
    drawn = charts.scatter([Point(label, 1, 0.5, 0.4, 0.6, label, "/a")], str, str)
    return drawn + charts.columns([Step(label, "/a")], [Layer("tj-one", label, [1])], lambda value: label)


@pytest.mark.parametrize("text", [*INJECTIONS.values(), "x" * 5000], ids=[*INJECTIONS, "long"])
def test_text_stays_text_in_a_picture(text: str) -> None:
    assert Markup(pictured(text)).elements == Markup(pictured(HARMLESS)).elements
    assert figures.label(text) in Markup(pictured(text)).text
    assert len(figures.label(text)) < 400


# The pages are under a policy without inline styles; a style attribute would be dropped.
def test_no_picture_has_a_style() -> None:
    drawn = charts.bar(0.5) + charts.interval(0.5, 0.4, 0.6) + charts.scatter([point("a", 1, 0.5)], str, str)
    assert "style" not in drawn


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "-"),
        (0, "$0.00"),
        (0.0123, "$0.0123"),
        (0.5, "$0.500"),
        (12.345, "$12.35"),
        (-0.02, "-$0.0200"),
        (1e-7, "$0.000000100"),
    ],
)
def test_money_keeps_three_digits(usd: float | None, shown: str) -> None:
    assert figures.money(usd) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (None, "-"),
        (250, "250 ms"),
        (2500, "2.5 s"),
        (59_960, "1 m"),
        (3_600_000, "1 h"),
        (134_000, "2 m 14 s"),
        (3_700_000, "1 h 1 m"),
    ],
)
def test_a_duration_has_its_two_largest_units(ms: float | None, shown: str) -> None:
    assert figures.span(ms) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (1.5, "1.5"), (9_999, "9,999"), (86_900, "86.9 k"), (999_900, "1 M"), (17_200_000, "17.2 M")],
)
def test_a_large_number_is_short(value: float | None, shown: str) -> None:
    assert figures.count(value) == shown


def test_a_difference_of_proportions_has_newcombes_interval() -> None:
    # The first example of the paper: 56 of 70 and 48 of 80.
    found = figures.difference(cards.rate_of(48, 80), cards.rate_of(56, 70))
    assert found is not None
    assert found == pytest.approx((0.0524, 0.3339), abs=0.0001)
    assert figures.verdict(cards.rate_of(48, 80), cards.rate_of(56, 70)) == "higher (+5 to +33 points)"
    assert figures.compared(cards.rate_of(56, 70), cards.rate_of(48, 80)) == "lower"
    assert figures.verdict(cards.rate_of(5, 10), cards.rate_of(6, 10)).startswith("not distinguishable (-")
    assert figures.verdict(cards.rate_of(0, 0), cards.rate_of(6, 10)) == "unknown"


def test_a_series_has_the_days_on_which_nothing_started() -> None:
    series = [{"start": "2026-01-05"}, {"start": "2026-01-07"}]
    found = cards.buckets({"series": series}, "day", date(2026, 1, 4), date(2026, 1, 9))
    assert [one.start.day for one in found if one.figures] == [5, 7]
    assert [one.start.day for one in found] == [4, 5, 6, 7, 8]
    weeks = cards.buckets({"series": [{"start": "2026-01-05"}]}, "week", date(2026, 1, 1), date(2026, 1, 14))
    assert [one.start.isoformat() for one in weeks] == ["2025-12-29", "2026-01-05", "2026-01-12"]
