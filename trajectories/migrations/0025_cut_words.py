from typing import Any

from django.db import migrations

from trajectories.storage import search_index


def mark(apps: Any, schema_editor: Any) -> None:
    """Mark the few runs that have more words than the search keeps. It reads the sizes of all."""
    search_index.mark_cut(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0024_selections"),
    ]

    operations = [migrations.RunPython(mark, migrations.RunPython.noop)]
