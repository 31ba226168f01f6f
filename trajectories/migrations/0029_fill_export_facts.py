from importlib import import_module

from django.db import migrations, models

_AddIndex = import_module("trajectories.migrations.0014_stats_indexes")._AddIndex


class Migration(migrations.Migration):
    """Add the index of facts; 0032 fills them, with those that came later."""

    # Postgres makes an index without locking the table only outside a transaction.
    atomic = False

    dependencies = [
        ("trajectories", "0028_export_facts"),
    ]

    operations = [
        _AddIndex(
            "trajectory",
            models.Index(fields=["tenant", "seq", "export_facts", "request_key"], name="trajectories_export"),
        ),
    ]
