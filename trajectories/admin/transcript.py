"""A run as readable text, for people who do not program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trajectories.admin import formatting
from trajectories.domain.record import NANO_USD

MAX_NAMED = 10
"""Tools, candidates and attempts that a sentence names; it counts the others."""

_ENDED = {
    "success": "It succeeded",
    "failure": "It failed",
    "partial": "It succeeded in part",
    "cancelled": "It was cancelled",
    "paused": "It is paused",
    "unknown": "How it ended is not known",
}
_METHODS = {
    "thompson-sampling": "by Thompson sampling, which tries models in proportion to how often they did well",
    "pattern-recommendation": "because it did well in similar runs",
    "explicit": "by name",
}
_FITS = {
    "good_fit": "The model suited the phase.",
    "underpowered": "The model was too weak for the phase.",
    "overprovisioned": "A smaller model would have been enough.",
    "failed": "The model failed at the phase.",
}

Fields = Mapping[str, Any]


class Paragraph(NamedTuple):
    """The sentences about one phase. ``error`` is whole and stands apart; None without one."""

    place: int
    name: str
    outcome: str
    sentences: list[str]
    error: str | None


def paragraphs(fields: Fields) -> list[Paragraph]:
    """Return a paragraph for each phase of a parsed canonical body, in order."""
    return [
        Paragraph(
            place,
            formatting.text(phase["phase_name"]) or "(no name)",
            phase.get("outcome", "unknown"),
            list(_sentences(phase)),
            formatting.text(phase.get("error")),
        )
        for place, phase in enumerate(fields["phases"])
    ]


def _sentences(phase: Fields) -> Iterator[str]:
    if phase.get("outcome") == "skipped":
        reason = phase.get("skip_reason")
        yield f"It was skipped: {_ended(reason)}" if reason else "It was skipped. No reason was recorded."
        return
    yield from _who(phase)
    yield from _choice(phase)
    yield from _work(phase)
    yield _end(phase)
    if reason := phase.get("status_reason"):
        yield f"The reason: {_ended(reason)}"
    if fit := phase.get("fit"):
        yield _FITS[fit]


def _who(phase: Fields) -> Iterator[str]:
    agent, model = formatting.text(phase.get("agent")), formatting.text(phase.get("model"))
    if agent and model:
        yield f"The agent {agent} worked with the model {model}."
    elif agent or model:
        yield f"The agent {agent} worked." if agent else f"The model {model} worked."
    asked = formatting.text(phase.get("requested_model"))
    if asked and asked != model:
        yield f"The model {asked} was asked for first."


def _choice(phase: Fields) -> Iterator[str]:
    method = phase.get("model_selection_method")
    candidates = phase.get("candidates", ())
    probability = phase.get("selection_probability")
    if method is None and not candidates and probability is None:
        return
    how = "" if method is None else f" {_METHODS.get(method, f'by {formatting.text(method)}')}"
    among = f", among {len(candidates)} models" if len(candidates) > 1 else ""
    chance = "" if probability is None else f", with a probability of {formatting.percent(probability)}"
    yield f"The model was chosen{how}{among}{chance}."
    excluded = [one for one in candidates if one.get("eligible") is False]
    for one in excluded[:MAX_NAMED]:
        reason = f": {_ended(one['reason'])}" if "reason" in one else "."
        yield f"{formatting.text(one['model'])} was excluded{reason}"
    if len(excluded) > MAX_NAMED:
        yield f"{len(excluded) - MAX_NAMED} more models were excluded."


def _work(phase: Fields) -> Iterator[str]:
    attempts = phase.get("attempts", ())
    if len(attempts) > 1:
        named = [f"{formatting.text(one['model'])} ({one['outcome']})" for one in attempts[:MAX_NAMED]]
        yield f"{len(attempts)} attempts were made: {_listed(named, len(attempts))}."
    tools: Counter[str] = Counter(phase.get("tools_used", ()))
    if tools:
        named = [
            f"{formatting.text(name)}{f' {count} times' if count > 1 else ''}"
            for name, count in tools.most_common(MAX_NAMED)
        ]
        yield f"It used {_listed(named, len(tools))}."


def _end(phase: Fields) -> str:
    took, cost = phase.get("duration_ms"), phase.get("cost_usd")
    said = _ENDED[phase.get("outcome", "unknown")]
    if took is not None:
        said += f" after {formatting.duration(round(took * 1000))}"
    if cost is not None:
        said += f" and cost {formatting.usd(round(cost * NANO_USD))}"
    return f"{said}."


def _listed(named: list[str], count: int) -> str:
    more = count - len(named)
    parts = [*named, *([f"{more} more"] if more > 0 else [])]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _ended(text: str) -> str:
    shown = (formatting.text(text) or "").strip()
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."
