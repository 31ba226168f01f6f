from typing import Any

from django.db import migrations, models

from trajectories.storage import search_index


def create(apps: Any, schema_editor: Any) -> None:
    """Create the index. ``manage.py fill_search`` adds the rows that exist."""
    rows = apps.get_model("trajectories", "Trajectory").objects.using(schema_editor.connection.alias)
    search_index.create(schema_editor, is_backlog=rows.exists())


def drop(apps: Any, schema_editor: Any) -> None:
    search_index.drop(schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0014_stats_indexes"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunPython(create, drop)],
            [
                migrations.CreateModel(
                    name="SearchEntry",
                    fields=[
                        ("trajectory_pk", models.BigIntegerField(db_column="rowid", primary_key=True, serialize=False)),
                        ("words", models.TextField()),
                    ],
                    options={"db_table": "trajectories_search", "default_permissions": ()},
                ),
            ],
        ),
    ]
