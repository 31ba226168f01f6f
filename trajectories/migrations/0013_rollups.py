import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Roll-ups of the records that exist are made by ``manage.py rebuild_rollups``, and meanwhile by
    the workers."""

    dependencies = [
        ("trajectories", "0012_compressed_body"),
    ]

    operations = [
        migrations.AddField("tenant", "rolled_seq", models.BigIntegerField(db_default=0, default=0, editable=False)),
        migrations.AddField(
            "tenant", "rolled_changed", models.BigIntegerField(db_default=0, default=0, editable=False)
        ),
        migrations.AddField("tenant", "rolled_cells", models.BigIntegerField(db_default=0, default=0, editable=False)),
        migrations.AddField("tenant", "rollup_cut", models.SmallIntegerField(db_default=0, default=0, editable=False)),
        migrations.CreateModel(
            name="RollUp",
            fields=[
                ("key", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("day", models.IntegerField()),
                ("start", models.IntegerField()),
                ("is_total", models.BooleanField()),
                ("request_type", models.TextField(null=True)),
                ("source", models.TextField(null=True)),
                ("project", models.TextField(null=True)),
                ("policy", models.TextField(null=True)),
                ("outcome", models.CharField(max_length=8, null=True)),
                ("cell", models.TextField()),
                ("details", models.TextField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trajectories.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "roll-up",
                "indexes": [
                    models.Index(fields=["tenant", "is_total", "day", "project"], name="trajectories_rollup_day")
                ],
            },
        ),
    ]
