from importlib import import_module

from django.db import migrations, models

_AddIndex = import_module("trajectories.migrations.0014_stats_indexes")._AddIndex


class Migration(migrations.Migration):
    # Postgres makes an index without locking the table only outside a transaction.
    atomic = False

    dependencies = [
        ("trajectories", "0022_fill_references"),
    ]

    operations = [
        _AddIndex(
            "trajectory",
            models.Index(
                fields=["tenant", "recorded_at_us"],
                condition=models.Q(started_at_us=None),
                name="trajectories_unstarted",
            ),
        ),
    ]
