from typing import Any

from django.db import migrations

from trajectories.storage.archive_outcomes import fill_references


def fill(apps: Any, schema_editor: Any) -> None:
    trajectory, reference = (apps.get_model("trajectories", name) for name in ("Trajectory", "Reference"))
    fill_references(trajectory, reference, schema_editor.connection.alias)


class Migration(migrations.Migration):
    # In small transactions, so that workers can write meanwhile.
    atomic = False

    dependencies = [
        ("trajectories", "0021_outcomes"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
