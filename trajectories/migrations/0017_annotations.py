import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0016_views"),
    ]

    operations = [
        migrations.CreateModel(
            name="Annotation",
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
                ("trajectory_id", models.UUIDField()),
                ("note", models.TextField(blank=True, max_length=10000)),
                ("tag", models.CharField(blank=True, max_length=64)),
                (
                    "fit",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("good_fit", "good fit"),
                            ("underpowered", "underpowered"),
                            ("overprovisioned", "overprovisioned"),
                            ("failed", "failed"),
                        ],
                        help_text="How the models suited the run.",
                        max_length=16,
                    ),
                ),
                ("author", models.CharField(editable=False, max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trajectories.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["tenant", "trajectory_id"],
                        name="trajectories_annotated",
                    )
                ],
            },
        ),
    ]
