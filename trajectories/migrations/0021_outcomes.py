import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0020_key_source"),
    ]

    operations = [
        migrations.AddField(
            model_name="trajectory",
            name="outcome_count",
            field=models.IntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name="trajectory",
            name="outcomes",
            field=models.TextField(db_default="", default="", editable=False),
        ),
        migrations.CreateModel(
            name="LateOutcome",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("outcome_id", models.UUIDField()),
                ("target_id", models.UUIDField()),
                ("stamp", models.BigIntegerField()),
                ("body", models.TextField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trajectories.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["tenant", "target_id"],
                        name="trajectories_outcome_target",
                    ),
                    models.Index(fields=["stamp"], name="trajectories_outcome_stamp"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "outcome_id"),
                        name="trajectories_outcome_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Reference",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("reference_id", models.UUIDField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trajectories.tenant",
                    ),
                ),
                (
                    "trajectory",
                    models.ForeignKey(
                        db_index=False,
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="references",
                        to="trajectories.trajectory",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["tenant", "reference_id"], name="trajectories_reference_target")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("trajectory", "reference_id"),
                        name="trajectories_reference_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RunOutcome",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("name", models.TextField()),
                ("place", models.SmallIntegerField(null=True)),
                ("is_true", models.BooleanField(null=True)),
                ("value_micro", models.BigIntegerField(null=True)),
                ("fit", models.CharField(max_length=16, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trajectories.tenant",
                    ),
                ),
                (
                    "trajectory",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="late",
                        to="trajectories.trajectory",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["tenant", "name"], name="trajectories_run_outcome")],
            },
        ),
    ]
