from typing import Any

from django.db import migrations

from trajectories.storage.archive_credit import fill_packed_phases


def fill(apps: Any, schema_editor: Any) -> None:
    trajectories, phases = apps.get_model("trajectories", "Trajectory"), apps.get_model("trajectories", "Phase")
    fill_packed_phases(trajectories, phases, schema_editor.connection.alias)


class Migration(migrations.Migration):
    # In small transactions, so that workers can write meanwhile.
    atomic = False

    dependencies = [
        ("trajectories", "0030_packed_phases"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
