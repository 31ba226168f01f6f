from importlib import import_module
from typing import Any

from django.db import migrations, models

from trajectories.storage.archive_credit import fill_export_facts

_AddIndex = import_module("trajectories.migrations.0014_stats_indexes")._AddIndex


def fill(apps: Any, schema_editor: Any) -> None:
    fill_export_facts(apps.get_model("trajectories", "Trajectory"), schema_editor.connection.alias)


class Migration(migrations.Migration):
    # In small transactions, so that workers can write meanwhile, and Postgres makes the index
    # without locking the table.
    atomic = False

    dependencies = [
        ("trajectories", "0031_fill_packed_phases"),
    ]

    operations = [
        migrations.AddField(
            model_name="trajectory",
            name="project_bucket",
            field=models.IntegerField(editable=False, null=True),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
        _AddIndex(
            "trajectory",
            models.Index(
                fields=["tenant", "seq", "export_facts", "request_key", "project_bucket"], name="trajectories_exported"
            ),
        ),
        migrations.RemoveIndex("trajectory", "trajectories_export"),
    ]
