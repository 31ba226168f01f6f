"""Readiness: whether recorded runs are worth training on."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import orjson

from trajectories.domain.clock import rfc3339
from trajectories.domain.query import Query
from trajectories.domain.record import Facets, Position, Record, facets_in
from trajectories.domain.warnings import warnings_of
from trajectories.services import reads
from trajectories.services.read_shares import ReadShares
from trajectories.storage.store import Store
from trajectories.training.measures import Measures, Run
from trajectories.training.readiness_checks import checks, note

MAX_RUNS = 1_000_000
_PAGE = 250


class Limits(NamedTuple):
    """How much to measure: no further run is read once one of these is reached.

    Runs, bytes of their bodies, and phases. Each is a cost of its own: runs may be empty, a body may
    be one long text, and a phase may take a few bytes.
    """

    runs: float
    size: float
    phases: float


SAMPLE = Limits(750, 3 * 1024**2, 10_000)
"""The sample of one HTTP request, below 100 ms of CPU whatever the runs are made of. A sample of 750
runs knows a share within 4 percentage points (95 % confidence)."""
ALL = Limits(inf, inf, inf)


def readiness(store: Store, tenant: str, query: Query, limits: Limits = SAMPLE) -> dict[str, Any]:
    """Return measures of the newest matching runs, and checks of them. Memory is constant.

    Returns:
        ``measures.Measures.as_json``, and ``ready`` (every check passed), ``checks``, ``matching``
        (how many runs match, by stats), ``note``, ``as_of`` and ``complete``: false if older runs
        were left out, or a tier was unavailable.

    Raises:
        ArchiveUnavailable: 503; the archive is unavailable before the first run of a page.
        TooManyReads: 429, as ``reads.list_``.
    """
    measures, is_complete, is_whole = Measures(), True, False
    left = limits
    position: Position | None = None
    with store.part(ReadShares).of(tenant) as share:
        while not is_whole and min(left) > 0:
            page = reads.list_(store, tenant, query, after=position, limit=int(min(_PAGE, left.runs)), share=share)
            count = 0
            for record in share.scan(page.records):
                run = _run(record, page.facets.get(record.id))
                measures.add(run)
                count += 1
                left = Limits(left.runs - 1, left.size - len(record.body), left.phases - len(run.groups))
                if min(left) <= 0:
                    break
            is_complete, position = is_complete and page.is_complete, page.next_position
            is_whole = position is None and count == len(page.records)
    if is_whole:
        return report(store, measures, measures.runs, is_complete=is_complete)
    # Outside of the share, which the count may need.
    matching = reads.count(store, tenant, query)
    return report(store, measures, max(matching, measures.runs), is_complete=False)


def report(store: Store, measures: Measures, matching: int, *, is_complete: bool) -> dict[str, Any]:
    """Return the answer for ``measures``, by the thresholds of the settings.

    Args:
        matching: how many runs match, of which these were measured.
    """
    found = checks(measures, store.conf.readiness, matching)
    return {
        "ready": all(check.passed for check in found),
        "checks": [check._asdict() for check in found],
        **measures.as_json(),
        "matching": matching,
        "note": note(measures.runs, matching),
        "as_of": rfc3339(store.now_us()).decode(),
        "complete": is_complete,
    }


def _run(record: Record, known: Facets | None) -> Run:
    """Return the run of a record. ``known``: its facets, where the hot cache has them."""
    fields = orjson.loads(record.body)
    facets = facets_in(fields, record.outcomes) if known is None else known
    return Run(
        fields=fields,
        groups=[phase.phase for phase in facets.phases],
        outcome=facets.outcome,
        cost=facets.cost_nano_usd,
        warnings=[warning.code for warning in warnings_of(fields)],
    )
