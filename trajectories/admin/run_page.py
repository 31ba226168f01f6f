"""The context of the page of one run: values ready for its template, as text that is safe to read.

Every list has a bound, so the size of the page follows the size of the record. Errors are whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from trajectories.admin import formatting, run_totals, shape, transcript, waterfall
from trajectories.admin.formatting import text
from trajectories.domain.clock import epoch_us
from trajectories.domain.record import NANO_USD
from trajectories.domain.text import visible

VIEWS = ("timeline", "shape", "transcript")
"""The views of a run; ``?view=`` names one, and the key v goes to the next."""
MAX_LISTED = 20
"""Candidates, attempts, tools, links and parts of a score that a phase shows; the JSON has all."""
ROW_HEIGHT = 26
_BAR_TOP, _BAR_HEIGHT = 5, 16
_THINNEST = 0.3
_SKIPPED_WIDTH = 1.2
_METER = 120
_ROOM_FOR_MODEL = 30
"""Percent of the axis beside a bar within which a caption with a model fits."""
_SHORT = 60

Fields = Mapping[str, Any]


class Cut(NamedTuple):
    """The first members of a list, and how many more there are."""

    shown: list[Any]
    more: int


def page(fields: Fields, view: str) -> dict[str, Any]:
    """Return the context of the page.

    Args:
        fields: an answer, parsed: a canonical body with ``derived`` and ``warnings``.
        view: one of VIEWS.
    """
    drawing = waterfall.layout(fields)
    return {
        "view": view,
        "timeline": _timeline(fields, drawing) if view == "timeline" else None,
        "graph": _graph(fields, drawing) if view == "shape" else None,
        "paragraphs": transcript.paragraphs(fields) if view == "transcript" else None,
        "facts": list(_facts(fields)),
        "totals": list(run_totals.totals(fields, drawing)),
        "contradictions": [(text(one["path"]), text(one["message"])) for one in fields.get("warnings", ())],
        "loops": [_loop(loop) for loop in fields.get("feedback_loops", ())],
        "details": [_details(fields, bar, place) for place, bar in enumerate(_in_order(drawing))],
        "run_error": text(fields.get("error")),
        "is_running": is_running(fields),
        "links": _links(fields.get("external_refs", {})),
    }


def is_running(fields: Fields) -> bool:
    """Return whether the run seems to go on: it has no outcome and no end."""
    outcome = fields.get("derived", {}).get("outcome", fields.get("outcome", "unknown"))
    return bool(outcome == "unknown" and "ended_at" not in fields)


def _short_usd(usd: float | None) -> str | None:
    return None if usd is None else formatting.short_usd(round(usd * NANO_USD))


def _facts(fields: Fields) -> Iterator[tuple[str, Any]]:
    """Yield the line under the request: what it cost and took, and where it comes from."""
    derived = fields["derived"]
    yield "cost", formatting.dollars(derived["total_cost_usd"])
    yield "duration", formatting.milliseconds(derived["total_duration_ms"])
    yield "tokens", formatting.number(derived["total_tokens"])
    for name in ("project", "source", "request_type", "policy"):
        yield name.replace("_", " "), text(fields.get(name))
    for name in ("started_at", "ended_at"):
        yield name.removesuffix("_at"), _time(fields.get(name))
    for name, words in (("build_passed", ("passed", "failed")), ("tests_passed", ("passed", "failed"))):
        if name in fields:
            yield name.removesuffix("_passed"), words[not fields[name]]
    for name in ("review_findings", "critical_findings", "files_changed"):
        if name in fields:
            yield name.replace("_", " "), formatting.number(fields[name])


def _time(moment: str | None) -> Any:
    return None if moment is None else formatting.time_tag(epoch_us(datetime.fromisoformat(moment)))


# --- Pictures


def _in_order(drawing: waterfall.Waterfall) -> list[waterfall.Bar]:
    return sorted(drawing.bars, key=lambda bar: bar.place)


def _name(fields: Fields, bar: waterfall.Bar) -> str:
    return (text(fields["phases"][bar.place]["phase_name"]) or "").strip() or "(no name)"


def _timeline(fields: Fields, drawing: waterfall.Waterfall) -> dict[str, Any]:
    rows = [_row(fields, bar) for bar in drawing.bars]
    return {
        "rows": rows,
        "arrows": [_drawn(arrow) for arrow in drawing.arrows],
        "ticks": [(tick.x, _tick_label(tick.at_us), tick.x > 95) for tick in drawing.ticks],
        "height": drawing.rows * ROW_HEIGHT,
        "timing": drawing.timing,
        "span": formatting.duration(drawing.span_us),
        "critical": formatting.duration(drawing.critical_us) if drawing.critical_us else None,
        "is_parallel": any(bar.is_parallel for bar in drawing.bars),
    }


def _tick_label(us: int) -> str:
    """Return a round duration without the units that are 0."""
    return (
        "0"
        if us == 0
        else (formatting.duration(us) or "").removesuffix(" 0 s").removesuffix(" 0 m").replace(".0 ", " ")
    )


def _row(fields: Fields, bar: waterfall.Bar) -> dict[str, Any]:
    """Return the attributes of a row. The caption stands right of the bar, or left where it would
    leave the picture."""
    phase = fields["phases"][bar.place]
    reason = _short(phase.get("skip_reason"))
    took = formatting.duration(bar.duration_us)
    if bar.is_skipped:
        caption: str | None = f"skipped: {reason}" if reason else "skipped"
    else:
        caption = took
    width = _SKIPPED_WIDTH if bar.is_skipped else max(bar.width, _THINNEST)
    x = min(bar.x, 100 - width)
    room = 100 - x - width
    is_left = room < _ROOM_FOR_MODEL and x > room
    return {
        "bar": bar,
        "number": bar.place + 1,
        "name": _name(fields, bar),
        "model": text(phase.get("model")),
        "title": ", ".join(
            filter(
                None,
                (
                    _name(fields, bar),
                    text(phase.get("model")),
                    bar.outcome,
                    took,
                    formatting.dollars(phase.get("cost_usd")),
                ),
            )
        ),
        "x": round(x, 3),
        "width": round(width, 3),
        "top": bar.row * ROW_HEIGHT,
        "y": bar.row * ROW_HEIGHT + _BAR_TOP,
        "height": _BAR_HEIGHT,
        "foot": bar.row * ROW_HEIGHT + _BAR_TOP + _BAR_HEIGHT,
        "caption": caption or "no duration",
        "caption_x": round(x if is_left else x + width, 3),
        "caption_cost": None if bar.is_skipped else _short_usd(phase.get("cost_usd")),
        "caption_model": _model(phase.get("model")) if (x if is_left else room) >= _ROOM_FOR_MODEL else None,
        "caption_y": bar.row * ROW_HEIGHT + 17,
        "is_left": is_left,
    }


def _drawn(arrow: waterfall.Arrow) -> dict[str, Any]:
    """Return the three lines of an arrow: out of its bar, up, and back to the earlier bar."""
    foot = _BAR_TOP + _BAR_HEIGHT + 3  # below the captions
    return {
        "source_x": arrow.source.end_x,
        "target_x": arrow.target.end_x,
        "x": min(99.5, round(max(arrow.source.end_x, arrow.target.end_x) + 1, 3)),
        "source_y": arrow.source.row * ROW_HEIGHT + foot,
        "target_y": arrow.target.row * ROW_HEIGHT + foot,
        "reason": text(arrow.reason),
    }


def _graph(fields: Fields, drawing: waterfall.Waterfall) -> dict[str, Any]:
    made = shape.graph(fields, drawing)
    boxes = [
        {
            "box": box,
            "bar": box.bar,
            "number": box.bar.place + 1,
            "name": _short(_name(fields, box.bar), 24),
            "model": _short(fields["phases"][box.bar.place].get("model"), 28),
            "title": _name(fields, box.bar),
        }
        for box in made.boxes
    ]
    edges = [(edge.kind, edge.path, text(edge.reason)) for edge in made.edges]
    return {"shape": made, "boxes": boxes, "edges": edges, "width": shape.BOX_WIDTH, "height": shape.BOX_HEIGHT}


def _short(value: str | None, length: int = _SHORT) -> str | None:
    shown = text(value)
    return shown if shown is None or len(shown) <= length else f"{shown[: length - 1]}…"


def _model(name: str | None) -> str | None:
    """Return the name of a model without its provider's, shortened."""
    return _short(name and (name.rpartition("/")[2] or name), 24)


def _loop(loop: Fields) -> dict[str, Any]:
    return {
        "source": text(loop.get("from_phase") or loop.get("from_phase_id")) or "a phase",
        "target": text(loop.get("to_phase") or loop.get("to_phase_id")) or "an earlier phase",
        "reason": text(loop.get("reason")),
        "at": _time(loop.get("at")),
    }


# --- Details of a phase


def _details(fields: Fields, bar: waterfall.Bar, place: int) -> dict[str, Any]:
    phase = fields["phases"][place]
    credits_ = fields["derived"]["credit"]["phases"]
    credit = credits_[place] if place < len(credits_) else {}
    tools: Counter[str] = Counter(phase.get("tools_used", ()))
    return {
        "number": place + 1,
        "bar": bar,
        "name": _name(fields, bar),
        "outcome": phase.get("outcome", "unknown"),
        "credited": credit.get("outcome"),
        "credit_source": credit.get("source"),
        "model": text(phase.get("model")),
        "chosen": _chosen(phase),
        "cost": formatting.dollars(phase.get("cost_usd")),
        "duration": formatting.duration(bar.duration_us),
        "facts": [(name, value) for name, value in _phase_facts(phase) if value is not None],
        "candidates": _cut(_candidates(phase)),
        "attempts": _cut([_attempt(attempt) for attempt in phase.get("attempts", ())[:MAX_LISTED]], phase, "attempts"),
        "tools": _cut([(text(name), count) for name, count in tools.most_common()]),
        "tool_calls": tools.total(),
        "evidence": _links(phase.get("evidence", {})),
        "error": text(phase.get("error")),
        "is_open": phase.get("outcome") == "failure" or "error" in phase,
    }


def _chosen(phase: Fields) -> str | None:
    """Return how the model was chosen, and with which probability."""
    method, share = _short(phase.get("model_selection_method")), phase.get("selection_probability")
    return " ".join(filter(None, (method, None if share is None else formatting.percent(share)))) or None


def _phase_facts(phase: Fields) -> Iterator[tuple[str, Any]]:
    for name in ("agent", "model"):
        yield name, text(phase.get(name))
    asked = phase.get("requested_model")
    yield "model that was asked for", text(asked) if asked != phase.get("model") else None
    yield "chosen by", text(phase.get("model_selection_method"))
    yield "rule", text(phase.get("selection_rule"))
    if (share := phase.get("selection_probability")) is not None:
        yield "probability of the choice", formatting.percent(share)
    yield "exploration", _exploration(phase.get("exploration"))
    if (share := phase.get("keep_probability")) is not None:
        yield "probability of running it", formatting.percent(share)
    yield "reasoning effort", text(phase.get("reasoning_effort"))
    yield "input tokens", formatting.number(phase.get("input_tokens"))
    yield "of these from the cache", formatting.number(phase.get("cached_input_tokens"))
    yield "written to the cache", formatting.number(phase.get("cache_write_input_tokens"))
    yield "output tokens", formatting.number(phase.get("output_tokens"))
    yield "of these for reasoning", formatting.number(phase.get("reasoning_tokens"))
    yield "steps", formatting.number(phase.get("steps_taken"))
    yield "attempt", formatting.number(phase.get("attempt"))
    yield "fit", text(phase.get("fit", "").replace("_", " ") or None)
    yield "reason", text(phase.get("status_reason"))
    yield "skipped because", text(phase.get("skip_reason"))
    yield "started", _time(phase.get("started_at"))
    yield "ended", _time(phase.get("ended_at"))
    yield "id", text(phase.get("phase_id"))
    depends_on = phase.get("depends_on", ())
    more = f" and {len(depends_on) - MAX_LISTED} more" if len(depends_on) > MAX_LISTED else ""
    yield "after", ", ".join(map(visible, depends_on[:MAX_LISTED])) + more if depends_on else None


def _exploration(given: Fields | None) -> str | None:
    if given is None:
        return None
    samples = f", {given['samples']:,} samples" if "samples" in given else ""
    seed = f", seed {given['seed']}" if "seed" in given else ""
    return f"{text(given['strategy'])}{samples}{seed}"


def _candidates(phase: Fields) -> list[dict[str, Any]]:
    given: Sequence[Fields] = phase.get("candidates", ())
    highest = max((abs(one.get("score", 0)) for one in given), default=0) or 1
    chosen = phase.get("requested_model", phase.get("model"))
    # The one that was picked first, then by probability and score: a long list is cut after these.
    ordered = sorted(given, key=lambda one: (one["model"] != chosen, -one.get("probability", 0), -one.get("score", 0)))
    return [_candidate(one, highest, is_chosen=one["model"] == chosen) for one in ordered[: MAX_LISTED + 1]] + [
        {} for _ in ordered[MAX_LISTED + 1 :]
    ]


def _candidate(one: Fields, highest: float, *, is_chosen: bool) -> dict[str, Any]:
    parts = one.get("score_parts", {})
    shown = [f"{visible(name)} {value:g}" for name, value in list(parts.items())[:MAX_LISTED]]
    score, probability = one.get("score"), one.get("probability")
    return {
        "model": text(one["model"]),
        "is_chosen": is_chosen,
        "is_excluded": one.get("eligible") is False,
        "reason": text(one.get("reason")),
        "score": None if score is None else f"{score:.4g}",
        "score_width": None if score is None else round(_METER * max(0, score) / highest, 1),
        "probability": None if probability is None else formatting.percent(probability),
        "probability_width": None if probability is None else round(_METER * probability, 1),
        "parts": ", ".join(shown),
    }


def _attempt(attempt: Fields) -> dict[str, Any]:
    return {
        "model": text(attempt["model"]),
        "outcome": attempt["outcome"],
        "reason": text(attempt.get("reason")),
        "error": text(attempt.get("error")),
        "cost": formatting.dollars(attempt.get("cost_usd")),
        "duration": formatting.milliseconds(attempt.get("duration_ms")),
    }


def _cut(members: list[Any], phase: Fields | None = None, name: str = "") -> Cut:
    count = len(members) if phase is None else len(phase.get(name, ()))
    return Cut(members[:MAX_LISTED], max(0, count - MAX_LISTED))


def _links(given: Mapping[str, str]) -> Cut:
    """Return names with texts, and an address where the text is one that is safe to open."""
    pairs: Iterable[tuple[str, str]] = list(given.items())[:MAX_LISTED]
    return Cut(
        [{"name": text(name), "text": text(value), "address": safe_address(value)} for name, value in pairs],
        max(0, len(given) - MAX_LISTED),
    )


def safe_address(value: str) -> str | None:
    """Return ``value`` if it is a web address that hides nothing; None for any other scheme or
    text."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    return value if is_web and value.isprintable() and " " not in value and visible(value) == value else None
