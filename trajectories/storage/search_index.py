"""Full-text search of the archive: FTS5 in SQLite, a ``tsvector`` with a GIN index in Postgres.

``domain.search_words`` makes the words; the database adds no stemming and no stop words. The writer
of the archive calls ``put`` and ``remove`` in its transaction. Rows that were archived before the
index existed are added by ``fill``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from django.db import connections, models, transaction
from django.db.models import Exists, F, Lookup, OuterRef, QuerySet

from trajectories.domain.search_words import MAX_BYTES, MAX_WORD, MAX_WORDS, MORE, words_in, words_of
from trajectories.models import SearchEntry, Trajectory

if TYPE_CHECKING:  # Django's own classes are not generic at run time
    _TextField = models.TextField[str, str]
    _Lookup = Lookup[Any]
else:
    _TextField, _Lookup = models.TextField, Lookup

TABLE = SearchEntry._meta.db_table
BACKLOG = 0
"""The entry that exists while rows from before the index may lack theirs; no trajectory has this
key."""
COMMON = 10_000
"""Entries that a search collects. Words of more are looked for along the order of the list."""
RARE = 2_000
"""Entries that a filter collects. To find a page of more, few enough rows are looked at."""
WALKED = 50_000
"""Entries that a database collects for a filter of large records, in 10 ms."""
_BATCH = 100
_CREATE = {
    "sqlite": (
        "CREATE VIRTUAL TABLE trajectories_search USING fts5"
        "(words, detail = column, columnsize = 0, tokenize = 'unicode61 remove_diacritics 0')",
    ),
    "postgresql": (
        "CREATE TABLE trajectories_search (rowid bigint PRIMARY KEY, words tsvector NOT NULL)",
        "CREATE INDEX trajectories_search_words ON trajectories_search USING gin (words)",
    ),
}
_INSERT = {
    "sqlite": "INSERT INTO trajectories_search (rowid, words) VALUES (%s, %s)",
    "postgresql": (
        "INSERT INTO trajectories_search (rowid, words) VALUES (%s, array_to_tsvector(%s::text[]))"
        " ON CONFLICT (rowid) DO UPDATE SET words = EXCLUDED.words"
    ),
}


class Words(_TextField):
    """The type of ``words`` in a search; what one types is a list of words."""


@Words.register_lookup
class HasWords(_Lookup):
    """Match entries that have all words; the last one may go on."""

    lookup_name = "has"

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        column, params = self.process_lhs(compiler, connection)
        # Quoted, so that no word is an operator.
        phrase = " ".join(f'"{word}"' for word in self.rhs)
        return f"{column} MATCH %s", [*params, f"{phrase}*"]

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        column, params = self.process_lhs(compiler, connection)
        phrase = " & ".join(f"'{word}'" for word in self.rhs)
        return f"{column} @@ %s::tsquery", [*params, f"{phrase}:*"]

    def get_prep_lookup(self) -> list[str]:
        return list(self.rhs)


@Words.register_lookup
class MayHave(HasWords):
    """Match entries that have all words, and those with MORE."""

    lookup_name = "may_have"

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        column, params = self.process_lhs(compiler, connection)
        phrase = " AND ".join(f'"{word}"' for word in self.rhs)
        return f"{column} MATCH %s", [*params, f'({phrase}) OR "{MORE}"']

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        column, params = self.process_lhs(compiler, connection)
        phrase = " & ".join(f"'{word}'" for word in self.rhs)
        return f"{column} @@ %s::tsquery", [*params, f"({phrase}) | '{MORE}'"]


def create(schema_editor: Any, *, is_backlog: bool) -> None:
    """Create the index, for a migration.

    Args:
        is_backlog: the archive has rows, which ``fill`` adds later.
    """
    for statement in _CREATE[schema_editor.connection.vendor]:
        schema_editor.execute(statement)
    if is_backlog:
        _insert(schema_editor.connection.alias, [(BACKLOG, [])])


def drop(schema_editor: Any) -> None:
    """Drop the index, for a migration."""
    schema_editor.execute("DROP TABLE trajectories_search")


def mark_cut(schema_editor: Any) -> None:
    """Add MORE to the entries of a release that cut words without it, for a migration."""
    long = {
        "sqlite": "rowid IN (SELECT id FROM trajectories_search_content WHERE length(c0) > %(words)s AND"
        " (length(c0) - length(replace(c0, ' ', '')) >= %(words)s - 1 OR length(CAST(c0 AS blob)) >= %(bytes)s))",
        # Compression makes none of them so small, and the size of all others is read without their text.
        "postgresql": "pg_column_size(words) > 1900 AND"
        " (length(words) >= %(words)s OR octet_length(words::text) >= %(bytes)s)",
    }
    more = {"sqlite": "words || ' ' || %(more)s", "postgresql": "words || array_to_tsvector(ARRAY[%(more)s])"}
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE trajectories_search SET words = {more[connection.vendor]} WHERE {long[connection.vendor]}",  # noqa: S608
            {"words": MAX_WORDS, "bytes": MAX_BYTES - 4 * MAX_WORD, "more": MORE},
        )


def put(entries: Sequence[tuple[int, list[str]]], using: str) -> None:
    """Write the words of rows, given by primary key, in the transaction of the caller."""
    if entries:
        _insert(using, entries)


def remove(pks: Sequence[int], using: str) -> None:
    """Delete the words of deleted rows."""
    if pks:
        SearchEntry.objects.using(using).filter(pk__in=pks)._raw_delete(using)


def matching(text: str) -> QuerySet[SearchEntry] | None:
    """Return the entries with all words of ``text``, or None if it has none. The last may go on.

    A word longer than MAX_WORD is compared by its beginning.
    """
    words = words_in(text)
    if not words:
        return None
    return SearchEntry.objects.filter(HasWords(_column(), words)).exclude(pk=BACKLOG)


def _column() -> models.ExpressionWrapper[Any]:
    return models.ExpressionWrapper(F("words"), output_field=Words())


def candidates(texts: Iterable[str], using: str) -> list[int] | None:
    """Return the keys of a few rows, among them each whose record has all words of ``texts``.

    Args:
        texts: tags, models or other names that ``search_words.words_of`` reads; not errors.

    Returns:
        None if there are no words, more than RARE rows, or rows without their words.
    """
    entries = may_have(texts, using)
    found = None if entries is None else keys(entries, RARE)
    return None if found is None or not is_complete(using) else found


def may_have(texts: Iterable[str], using: str) -> QuerySet[SearchEntry] | None:
    """Return the entries that may have all words of ``texts``; None if there are no words."""
    words = list(dict.fromkeys(word for text in texts for word in words_in(text)))
    return SearchEntry.objects.using(using).filter(MayHave(_column(), words)) if words else None


def is_more_than(entries: QuerySet[SearchEntry], most: int) -> bool:
    """Return whether there are more than ``most`` of ``entries``.

    A database steps over entries ten times as fast as Python reads their keys.
    """
    return entries.order_by()[most:].exists()


def keys(entries: QuerySet[SearchEntry], most: int | None = None) -> list[int] | None:
    """Return the keys of ``entries``; None if they are more than ``most``, by default COMMON.

    A database guesses how many entries have a word that its statistics lack. With a condition on
    them, Postgres would walk all rows of the list to find the one that has a rare word.
    """
    most = COMMON if most is None else most
    found = list(entries.values_list("pk", flat=True)[: most + 1])
    return None if len(found) > most else found


def walked(rows: QuerySet[Trajectory], entries: QuerySet[SearchEntry]) -> QuerySet[Trajectory]:
    """Return those of ``rows`` that have one of ``entries``, for a walk of ``rows`` in their order."""
    if connections[rows.db].vendor == "sqlite":
        # FTS5 would read all matches of a beginning again for each row. A sum has no index, so SQLite
        # collects the keys once and looks each row up in them.
        return rows.alias(key=F("pk") + 0).filter(key__in=entries.values("pk"))
    return rows.filter(Exists(entries.filter(pk=OuterRef("pk"))))


def is_complete(using: str | None = None) -> bool:
    """Return whether every row that was there when the index was created has its words."""
    return not SearchEntry.objects.using(using).filter(pk=BACKLOG).exists()


def fill(using: str) -> int:
    """Add the rows that lack their words, newest first, and return their number.

    Writes may go on. Rows that a process of an earlier release writes later need another call.
    """
    entry = SearchEntry.objects.using(using).filter(pk=OuterRef("pk"))
    rows = Trajectory.objects.using(using).filter(~Exists(entry)).order_by("-pk")
    count, below = 0, None
    while pks := list((rows if below is None else rows.filter(pk__lt=below)).values_list("pk", flat=True)[:_BATCH]):
        with transaction.atomic(using=using):
            lacking = rows.filter(pk__in=pks)
            # The update locks the rows, so no worker replaces a body between the read and the write.
            lacking.order_by().update(seq=F("seq"))
            found = lacking.only("pk", "body", "compressed_body")
            put([(row.pk, words_of(orjson.loads(row.canonical))) for row in found], using)
        count, below = count + len(pks), pks[-1]
    remove([BACKLOG], using)
    return count


def compact(using: str) -> None:
    """Remove deleted words from the files of the index."""
    if connections[using].vendor == "sqlite":
        with connections[using].cursor() as cursor:
            cursor.execute("INSERT INTO trajectories_search (trajectories_search) VALUES ('optimize')")


def _insert(using: str, entries: Sequence[tuple[int, list[str]]]) -> None:
    connection = connections[using]
    is_sqlite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        if is_sqlite:  # FTS5 has no upsert
            cursor.executemany("DELETE FROM trajectories_search WHERE rowid = %s", [(pk,) for pk, _ in entries])
        values = [(pk, " ".join(words) if is_sqlite else words) for pk, words in entries]
        cursor.executemany(_INSERT[connection.vendor], values)
