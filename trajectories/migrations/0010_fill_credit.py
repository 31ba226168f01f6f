from typing import Any

from django.db import migrations

from trajectories.storage.archive_credit import fill_credit


def fill(apps: Any, schema_editor: Any) -> None:
    trajectory, phase = (apps.get_model("trajectories", name) for name in ("Trajectory", "Phase"))
    fill_credit(trajectory, phase, schema_editor.connection.alias)


class Migration(migrations.Migration):
    # In small transactions, so that workers can write meanwhile.
    atomic = False

    dependencies = [
        ("trajectories", "0009_credit"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
