"""Rows of the archive's tables, for a whole batch and without model objects.

The models remain the one source of tables and columns. Their objects and the ORM's inserts took two
thirds of a worker's CPU. Postgres gets new rows by COPY, other databases by ``executemany``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from django.db import connections, models, router

from trajectories.conf import read_settings
from trajectories.domain.compression import from_columns, to_columns
from trajectories.domain.export_facts import content_key, facts_and_choice_key, project_bucket, request_digest
from trajectories.domain.late_outcomes import count, references_of
from trajectories.domain.outcomes import phase_group
from trajectories.domain.packed_phases import packed_of
from trajectories.domain.record import Facets, PhaseFacets, Record, facets_in
from trajectories.domain.stats import TRAJECTORY_MEASURES, bucket_of
from trajectories.domain.text import fold
from trajectories.models import Phase, Trajectory

Key: TypeAlias = tuple[str, UUID]
"""Tenant and id."""

RECORD_COLUMNS = ("tenant_id", "trajectory_id", "stamp", "digest", "revision", "recorded_at_us", "body")
"""Columns of a version, in the order of the fields of ``Record``."""

TRAJECTORY_COLUMNS = (*RECORD_COLUMNS, "compressed_body", "outcomes")
"""Those of an archived one, whose body is in one of two columns."""
EXPORT_COLUMNS = ("export_facts", "request_key", "project_bucket", "content_key", "choice_key")
"""Those by which exports leave out runs; see ``domain.export_facts``."""
_OF_BODY = (
    "phase_name",
    "phase_id",
    "requested_model",
    "selection_probability",
    "skip_reason",
    "attempt",
)
_TOOLS_AT, _CREDIT_SOURCE_AT = map(PhaseFacets._fields.index, ("tools", "credit_source"))
PHASE_COLUMNS = ("place", *_OF_BODY, *(name for name in PhaseFacets._fields if name != "credit_source"))
"""Columns of a phase without its trajectory: those of its body, and its facets."""
_CHUNK = 500
"""Keys in a statement, below SQLite's number of variables."""

Row: TypeAlias = dict[str, Any]


class _Table(NamedTuple):
    """A table and its columns without the primary key, each with its conversion to the driver's
    type."""

    name: str
    columns: tuple[str, ...]
    adapters: tuple[Callable[[Any], Any] | None, ...]


def key_of(record: Record) -> Key:
    return record.tenant, record.id


def alias() -> str:
    """Return the alias of the write database."""
    return router.db_for_write(Trajectory)


def wanted(keys: Collection[Key]) -> tuple[str, list[Any]]:
    """Return ``WITH wanted (…) AS (…)`` for a statement, and its values; at least one key.

    A join with it takes one step in the index for each key, however many tenants there are.
    """
    clause = f"WITH wanted (tenant_id, trajectory_id) AS (VALUES {_marks('(%s, %s)', len(keys))})"
    return clause, key_values(keys)


def key_values(keys: Collection[Key]) -> list[Any]:
    """Return the values of keys for a statement, in pairs."""
    connection, field = connections[alias()], Trajectory._meta.get_field("trajectory_id")
    return [part for tenant, id_ in keys for part in (tenant, field.get_db_prep_value(id_, connection))]


def of_wanted(model: type[models.Model], by: str = "trajectory_id") -> str:
    """Return the ``FROM`` of the rows of ``model`` that are ``wanted``, by their id in the column
    ``by``."""
    condition = f"held.tenant_id = wanted.tenant_id AND held.{by} = wanted.trajectory_id"
    return f"FROM wanted JOIN {table_of(model)} held ON {condition}"


def read(
    model: type[models.Model], columns: Sequence[str], keys: Collection[Key], by: str = "trajectory_id"
) -> list[tuple[Any, ...]]:
    """Return ``columns`` of the rows of ``keys``, ids as the driver has them."""
    return select(", ".join(f"held.{name}" for name in columns), of_wanted(model, by), keys)


def select(columns: str, of: str, keys: Collection[Key]) -> list[tuple[Any, ...]]:
    """Return ``columns`` of a ``FROM`` that joins what is ``wanted``; a row may come twice for many
    keys."""
    found: list[tuple[Any, ...]] = []
    ordered = [*keys]
    with connections[alias()].cursor() as cursor:
        for start in range(0, len(ordered), _CHUNK):
            clause, values = wanted(ordered[start : start + _CHUNK])
            cursor.execute(f"{clause} SELECT {columns} {of}", values)
            found += cursor.fetchall()
    return found


def named(model: type[models.Model], column: str, keys: Collection[Any], condition: str = "TRUE") -> list[Any]:
    """Return ``column`` of the rows with these primary keys that meet ``condition``, which knows
    them as ``held``.

    It is for statements of every batch: the ORM takes ten times as long to make one as a database
    takes to answer it.
    """
    found: list[Any] = []
    table, pk, ordered = table_of(model), model._meta.pk.column, [*keys]
    with connections[alias()].cursor() as cursor:
        for start in range(0, len(ordered), _CHUNK):
            chunk = ordered[start : start + _CHUNK]
            of_keys = f"held.{pk} IN ({_marks('%s', len(chunk))})"
            cursor.execute(f"SELECT held.{column} FROM {table} held WHERE {of_keys} AND {condition}", chunk)
            found += [value for (value,) in cursor.fetchall()]
    return found


def table_of(model: type[models.Model]) -> str:
    """Return the quoted name of a table."""
    return connections[alias()].ops.quote_name(model._meta.db_table)


def as_uuid(value: Any) -> UUID:
    """Return an id as the driver has it as a UUID."""
    return value if isinstance(value, UUID) else UUID(value)


def insert(model: type[models.Model], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert ``rows``, each with a value for every column but the primary key."""
    if rows:
        table = _table(model, alias())
        _insert(table.name, table.columns, [_values(table, row) for row in rows])


def insert_phases(rows: Sequence[Sequence[Any]]) -> None:
    """Insert phases: the primary key of the trajectory, then the values of PHASE_COLUMNS."""
    if rows:
        _insert(_table(Phase, alias()).name, ("trajectory_id", *PHASE_COLUMNS), rows)


def _insert(table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    connection, columns = connections[alias()], ", ".join(names)
    with connection.cursor() as cursor:
        if hasattr(cursor, "copy"):  # psycopg 3
            # The context, since errors come from its end too.
            with connection.wrap_database_errors, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({_marks('%s', len(names))})", rows)


def update(model: type[models.Model], rows: Mapping[Any, Mapping[str, Any]], using: str | None = None) -> None:
    """Set the given columns of rows, by primary key; every row has the same columns.

    Args:
        using: another database than the write database.
    """
    if not rows:
        return
    using = using or alias()
    table, names = _table(model, using), tuple(next(iter(rows.values())))
    adapters = [table.adapters[table.columns.index(name)] for name in names]
    values = [
        (*(adapt(row[name]) if adapt else row[name] for name, adapt in zip(names, adapters, strict=True)), pk)
        for pk, row in rows.items()
    ]
    pk_name, assignments = model._meta.pk.column, ", ".join(f"{name} = %s" for name in names)
    with connections[using].cursor() as cursor:
        cursor.executemany(f"UPDATE {table.name} SET {assignments} WHERE {pk_name} = %s", values)


def plain(rows: models.QuerySet[Any, Any], size: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a ``values_list`` as the driver has them.

    It is for numbers, texts and bytes of many rows: a queryset takes as long for each as a database.

    Args:
        size: rows that are fetched at a time; None fetches all.
    """
    has_cursors = not connections[rows.db].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    compiler, is_part = rows.query.get_compiler(rows.db), size is not None and has_cursors
    yield from chain.from_iterable(compiler.execute_sql(chunked_fetch=is_part, chunk_size=size or _CHUNK))


class Values(NamedTuple):
    """The values that follow from a record.

    Its facets, the columns of its row, PHASE_COLUMNS of its phases, its references, and its parsed
    body.
    """

    facets: Facets
    row: Row
    phases: list[tuple[Any, ...]]
    references: list[UUID]
    fields: dict[str, Any]


def values_of(record: Record) -> Values:
    """Return the columns that follow from a record, matched by name with its facets."""
    fields = orjson.loads(record.body)
    facets = facets_in(fields, record.outcomes)
    body, compressed_body = to_columns(record.body, is_compressed=read_settings().compress_bodies)
    row = {
        "stamp": record.stamp,
        "digest": record.digest,
        "revision": record.revision,
        "recorded_at_us": record.recorded_at_us,
        "body": body,
        "compressed_body": compressed_body,
        "outcomes": record.outcomes.decode(),
        "outcome_count": count(record.outcomes),
        "parent_id": fields.get("parent_id") and UUID(fields["parent_id"]),
        "phase_count": len(facets.phases),
        "packed_phases": packed_of(facets, record.revision),
        **export_columns(fields, facets.request_summary_folded, [phase.phase for phase in facets.phases]),
        **_columns(facets),
    }
    for measure in TRAJECTORY_MEASURES:
        value = row[measure.column]
        row[f"{measure.column}_bucket"] = None if value is None else bucket_of(value)
    phases = [
        _phase(place, body, of_phase)
        for place, (body, of_phase) in enumerate(zip(fields["phases"], facets.phases, strict=True))
    ]
    return Values(facets, row, phases, references_of(fields), fields)


def export_columns(fields: Mapping[str, Any], folded: str, groups: Sequence[str]) -> Row:
    """Return the columns by which exports leave out a run.

    Args:
        fields: a canonical body, parsed.
        folded: its folded summary.
        groups: ``phase_group`` of each phase.
    """
    request = request_digest(folded, fields.get("request_type"))
    facts, choices = facts_and_choice_key(fields)
    return {
        "export_facts": facts,
        "request_key": request,
        "project_bucket": project_bucket(fields),
        "content_key": content_key(request, groups, fields["phases"]),
        "choice_key": choices,
    }


def export_columns_of(body: bytes) -> Row:
    """Return ``export_columns`` of a canonical body, by the aliases of phases as they are now."""
    fields = orjson.loads(body)
    return export_columns(
        fields, fold(fields["request_summary"]), [phase_group(phase["phase_name"]) for phase in fields["phases"]]
    )


def record_from(columns: Sequence[Any]) -> Record:
    """Return a record from the values of TRAJECTORY_COLUMNS."""
    *stamps, body, compressed_body, outcomes = columns
    return Record.from_row((*stamps, from_columns(body, compressed_body), outcomes))


def _phase(place: int, body: dict[str, Any], facets: PhaseFacets) -> tuple[Any, ...]:
    """Return the values of PHASE_COLUMNS: not by name, since a run has many phases."""
    get, of_facets = body.get, [*facets]
    of_facets[_TOOLS_AT] = members_text(facets.tools)
    del of_facets[_CREDIT_SOURCE_AT]
    return (place, *[get(name) for name in _OF_BODY], *of_facets)


def _columns(facets: Facets) -> Row:
    """Return facets as column values: lists as text for exact search, without those of other
    tables."""
    columns = facets._asdict()
    del columns["phases"], columns["late"]
    columns["tags"] = members_text(facets.tags)
    return columns


def members_text(members: Sequence[str]) -> str:
    """Return each member as JSON on its own line: a list has a member if the text has its line."""
    return "".join([f"\n{orjson.dumps(member).decode()}\n" for member in members])


@cache
def _table(model: type[models.Model], using: str) -> _Table:
    connection = connections[using]
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    return _Table(
        connection.ops.quote_name(model._meta.db_table),
        tuple(str(field.column) for field in fields),
        # Drivers take every other type of these models as it is.
        tuple(_adapter(field, using) if isinstance(field, models.UUIDField) else None for field in fields),
    )


def _adapter(field: models.Field[Any, Any], using: str) -> Callable[[Any], Any]:
    return lambda value: field.get_db_prep_value(value, connections[using])


def _values(table: _Table, row: Mapping[str, Any]) -> list[Any]:
    return [adapt(row[name]) if adapt else row[name] for name, adapt in zip(table.columns, table.adapters, strict=True)]


def _marks(mark: str, count: int) -> str:
    return ", ".join([mark] * count)
