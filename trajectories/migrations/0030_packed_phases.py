from importlib import import_module

from django.db import migrations, models

_AddIndex = import_module("trajectories.migrations.0014_stats_indexes")._AddIndex


class Migration(migrations.Migration):
    """Add the packed phases of a run, and make room for them: indexes of the newest runs go on
    without their ids."""

    # Postgres makes an index without locking the table only outside a transaction.
    atomic = False

    dependencies = [
        ("trajectories", "0029_fill_export_facts"),
    ]

    operations = [
        migrations.AddField(
            model_name="trajectory",
            name="packed_phases",
            field=models.BinaryField(null=True),
        ),
        _AddIndex("trajectory", models.Index(fields=["-recorded_at_us"], name="trajectories_recorded")),
        migrations.RemoveIndex("trajectory", "trajectories_newest"),
        _AddIndex("trajectory", models.Index(fields=["tenant", "-recorded_at_us"], name="trajectories_of_tenant")),
        migrations.RemoveIndex("trajectory", "trajectories_position"),
    ]
