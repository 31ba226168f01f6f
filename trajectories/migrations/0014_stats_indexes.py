import logging
from typing import Any

from django.db import Error, migrations, models

logger = logging.getLogger(__name__)

_TRIGRAMS = "trajectories_summary_trigrams"


class _AddIndex(migrations.AddIndex):
    """Add an index while workers write."""

    # Not ``AddIndexConcurrently`` of django.contrib.postgres, which needs psycopg on SQLite too.
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.add_index(model, self.index, concurrently=True)


def add_trigrams(apps: Any, schema_editor: Any) -> None:
    """Index the words of summaries, where Postgres has the extension and this role may use it.

    Without it, ``q`` looks at every summary of the tenant, as before.
    """
    if schema_editor.connection.vendor != "postgresql":
        return
    table = apps.get_model("trajectories", "Trajectory")._meta.db_table
    with schema_editor.connection.cursor() as cursor:
        try:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except Error as error:
            logger.warning("Searches for words stay slow on large tenants (docs/reliability.md): %s", error)
            return
        cursor.execute(
            f'CREATE INDEX CONCURRENTLY IF NOT EXISTS {_TRIGRAMS} ON "{table}"'
            " USING gin (request_summary_folded gin_trgm_ops)"
        )


def remove_trigrams(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {_TRIGRAMS}")


class Migration(migrations.Migration):
    # Postgres makes an index without locking the table only outside a transaction.
    atomic = False

    dependencies = [
        ("trajectories", "0013_rollups"),
    ]

    operations = [
        _AddIndex("phase", models.Index(fields=["model", "phase", "trajectory"], name="trajectories_phase_model")),
        _AddIndex(
            "trajectory",
            models.Index(fields=["tenant", "request_type", "-recorded_at_us"], name="trajectories_request_type"),
        ),
        migrations.RunPython(add_trigrams, remove_trigrams),
    ]
