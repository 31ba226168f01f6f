"""Readiness: whether recorded runs are worth training on."""

from __future__ import annotations

from typing import Any

import orjson

from trajectories.domain.clock import rfc3339
from trajectories.domain.query import Query
from trajectories.domain.record import Facets, Position, Record, facets_in
from trajectories.domain.warnings import warnings_of
from trajectories.services import reads
from trajectories.services.read_shares import ReadShares
from trajectories.storage.store import Store
from trajectories.training.measures import Measures, Run
from trajectories.training.readiness_checks import checks

DEFAULT_RUNS = 20_000
"""Runs that an answer over HTTP measures: seconds, where a million would take minutes."""
MAX_RUNS = 1_000_000
MAX_BYTES = 64 * 1024**2
"""Bytes of bodies that such an answer measures: those of 30,000 runs of 5 phases. It bounds the CPU to
some seconds, whatever the runs are made of."""
_PAGE = 1000


def readiness(
    store: Store,
    tenant: str,
    query: Query,
    *,
    max_runs: int | None = DEFAULT_RUNS,
    max_bytes: int | None = MAX_BYTES,
) -> dict[str, Any]:
    """Return measures of the newest matching runs, and checks of them. Memory is constant.

    Args:
        max_runs: how many runs to measure at most; None: all.
        max_bytes: bytes of bodies after which no further page is read; None: all.

    Returns:
        ``measures.Measures.as_json``, and ``ready`` (every check passed), ``checks``, ``as_of`` and
        ``complete``: false if older runs were left out, or a tier was unavailable.

    Raises:
        ArchiveUnavailable: 503; the archive is unavailable before the first run of a page.
        TooManyReads: 429, as ``reads.list_``.
    """
    measures, is_complete, size = Measures(), True, 0
    position: Position | None = None
    with store.part(ReadShares).of(tenant) as share:
        while (max_runs is None or measures.runs < max_runs) and (max_bytes is None or size < max_bytes):
            limit = _PAGE if max_runs is None else min(_PAGE, max_runs - measures.runs)
            page = reads.list_(store, tenant, query, after=position, limit=limit, share=share)
            for record in share.scan(page.records):
                measures.add(_run(record, page.facets.get(record.id)))
                size += len(record.body)
            is_complete, position = is_complete and page.is_complete, page.next_position
            if position is None:
                break
    return report(store, measures, is_complete=is_complete and position is None)


def report(store: Store, measures: Measures, *, is_complete: bool) -> dict[str, Any]:
    """Return the answer for ``measures``, by the thresholds of the settings."""
    found = checks(measures, store.conf.readiness)
    return {
        "ready": all(check.passed for check in found),
        "checks": [check._asdict() for check in found],
        **measures.as_json(),
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
