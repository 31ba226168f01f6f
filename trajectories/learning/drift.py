"""Alerts: what has changed in the choices of a tenant and in their success."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from trajectories import metrics
from trajectories.conf import Settings
from trajectories.domain.choice_sums import PhaseCells, Sums
from trajectories.domain.choices import MODEL
from trajectories.domain.stats import BUCKETS, bucket_start, wilson
from trajectories.learning.cells import learned
from trajectories.services.read_shares import ReadShares
from trajectories.storage.store import Store

DEFAULT_WEEKS: Final = 4
MAX_WEEKS: Final = 52
DOMINANT: Final = 0.8
"""Share of the choices of a phase above which one model dominates."""
IGNORED: Final = 0.5
MIN_SAMPLES: Final = 20
CODES: Final = ("model_dominates", "success_changed", "recommendations_ignored", "recommendations_worse")


class Alert(NamedTuple):
    """``value`` is the share or rate of this period, ``before`` that of the time before, if
    compared."""

    code: str
    phase: str
    request_type: str | None
    model: str | None
    value: float
    before: float | None
    samples: int
    message: str


def alerts(store: Store, tenant: str, *, weeks: int = DEFAULT_WEEKS) -> dict[str, Any]:
    """Return the answer of ``GET /v1/agent/alerts`` (``learning_responses.Alerts``).

    Args:
        weeks: length of this period, this week included; it is compared with everything before it.

    Raises:
        TooManyReads: 429; as ``cells.learned``.
    """
    known = learned(store, tenant)
    start_us = since_us(store.now_us(), weeks)
    found: list[Alert] = []
    advice: list[dict[str, Any]] = []
    with store.part(ReadShares).of(tenant) as share:
        for phase in share.scan(sorted(known.by_phase)):
            cells = known.by_phase[phase]
            of_types = [*_by_type(cells, start_us)]
            found += [*_dominance(phase, of_types), *_changes(phase, of_types)]
            given = _advice(cells, start_us)
            if given:
                advice.append(
                    {"phase": phase, **{name: _rate(given.get(name, Sums())) for name in ("followed", "ignored")}}
                )
                found += _of_advice(phase, given)
    store.part(_AlertCounts).set(tenant, Counter(alert.code for alert in found))
    return {
        "weeks": weeks,
        "alerts": [alert._asdict() for alert in found],
        "recommendations": advice,
        "complete": known.is_complete,
    }


def since_us(now_us: int, weeks: int) -> int:
    """Return the start of a period of this many weeks that has ``now_us``, in microseconds since
    1970."""
    width, _ = BUCKETS["week"]
    return bucket_start(now_us, "week") - (weeks - 1) * width


class _OfType(NamedTuple):
    """The first choices for a type of request, by model: in this period, and before it."""

    request_type: str | None
    now: dict[str, Sums]
    before: dict[str, Sums]


def _by_type(cells: PhaseCells, since_us: int) -> Iterator[_OfType]:
    for request_type in sorted(cells.by_type, key=lambda name: (name is None, name or "")):
        now, before = dict[str, Sums](), dict[str, Sums]()
        for (kind, model, after, week, _), sums in cells.by_type[request_type].items():
            if kind == MODEL and after is None and model is not None:
                period = now if week >= since_us else before
                period[model] = period[model].plus(sums) if model in period else sums
        yield _OfType(request_type, now, before)


def _dominance(phase: str, of_types: Iterable[_OfType]) -> Iterator[Alert]:
    """Yield an alert for each type of request in which one model takes most first choices.

    Where only one model was ever chosen, nothing was decided.
    """
    for kind, now, before in of_types:
        if len(now.keys() | before.keys()) < 2 or not now:
            continue
        total, (model, of_model) = sum([one.choices for one in now.values()]), max(now.items(), key=_choices)
        most = of_model.choices
        if total >= MIN_SAMPLES and most / total > DOMINANT:
            yield Alert(
                "model_dominates",
                phase,
                kind,
                model,
                most / total,
                None,
                total,
                f"{model} takes {most / total:.0%} of {total} choices at {phase}{_of(kind)}: other models are hardly tried"
                " any more.",
            )


def _choices(of_model: tuple[str, Sums]) -> int:
    return of_model[1].choices


def _changes(phase: str, of_types: Iterable[_OfType]) -> Iterator[Alert]:
    """Yield an alert for each model whose success left the interval that it had before."""
    for kind, now, before in sorted(of_types, key=lambda one: one.request_type or ""):
        for model in sorted(now.keys() & before.keys()):
            sums, earlier = now[model], before[model]
            if min(sums.known, earlier.known) < MIN_SAMPLES:
                continue
            rate, was = sums.score / 2 / sums.known, earlier.score / 2 / earlier.known
            # Both must exclude the other: a rate of few outcomes leaves a narrow interval by chance.
            if _excludes(earlier, rate) and _excludes(sums, was):
                yield Alert(
                    "success_changed",
                    phase,
                    kind,
                    model,
                    rate,
                    was,
                    sums.known,
                    f"{model} succeeds in {rate:.0%} of {sums.known} outcomes at {phase}{_of(kind)}; before it was"
                    f" {was:.0%} of {earlier.known}.",
                )


def _advice(cells: PhaseCells, since_us: int) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for (_, _, _, week, advice), sums in cells.total.items():
        if advice is not None and week >= since_us:
            found[advice] = found[advice].plus(sums) if advice in found else sums
    return found


def _of_advice(phase: str, given: Mapping[str, Sums]) -> Iterator[Alert]:
    followed, ignored = given.get("followed", Sums()), given.get("ignored", Sums())
    total = followed.choices + ignored.choices
    if total >= MIN_SAMPLES and ignored.choices / total > IGNORED:
        yield Alert(
            "recommendations_ignored",
            phase,
            None,
            None,
            ignored.choices / total,
            None,
            total,
            f"{ignored.choices / total:.0%} of {total} recommendations at {phase} were not followed.",
        )
    if min(followed.known, ignored.known) < MIN_SAMPLES:
        return
    with_, without = followed.score / 2 / followed.known, ignored.score / 2 / ignored.known
    if with_ < without and _excludes(followed, without) and _excludes(ignored, with_):
        yield Alert(
            "recommendations_worse",
            phase,
            None,
            None,
            with_,
            without,
            followed.known,
            f"Followed recommendations at {phase} succeed in {with_:.0%} of {followed.known} outcomes, ignored ones in"
            f" {without:.0%} of {ignored.known}.",
        )


def _rate(sums: Sums) -> dict[str, Any]:
    low, high = wilson(round(sums.score / 2), sums.known) or (None, None)
    rate = sums.score / 2 / sums.known if sums.known else None
    return {"choices": sums.choices, "known": sums.known, "rate": rate, "low": low, "high": high}


def _excludes(sums: Sums, rate: float) -> bool:
    low, high = wilson(round(sums.score / 2), sums.known) or (0.0, 1.0)
    return not low <= rate <= high


def _of(request_type: str | None) -> str:
    return "" if request_type is None else f" of {request_type}"


class _AlertCounts:
    """The alerts of each tenant at its last answer, for the gauge. A part of a store."""

    def __init__(self, conf: Settings) -> None:
        self._lock = threading.Lock()
        self._of_tenants: dict[str, Counter[str]] = {}

    def set(self, tenant: str, counts: Counter[str]) -> None:
        with self._lock:
            if counts:
                self._of_tenants[tenant] = counts  # bounded by the tenants that have alerts
            else:
                self._of_tenants.pop(tenant, None)
            for code in CODES:
                metrics.alerts.labels(code).set(sum(one[code] for one in self._of_tenants.values()))
