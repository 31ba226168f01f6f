from typing import Any

from django.db import migrations, models

_INDEX = models.Index(fields=["model", "phase", "trajectory"], name="trajectories_phase_model")


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        schema_editor.remove_index(apps.get_model("trajectories", "Phase"), _INDEX)


def add(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        schema_editor.add_index(apps.get_model("trajectories", "Phase"), _INDEX)


class Migration(migrations.Migration):
    """Drop an index that only Postgres uses, where scans and exports of a rare model begin with it.

    SQLite looks at the phases of each run. So no model has the index, as that of trigrams.
    """

    dependencies = [
        ("trajectories", "0026_choice_sums"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveIndex("phase", "trajectories_phase_model")],
            database_operations=[migrations.RunPython(drop, add)],
        )
    ]
