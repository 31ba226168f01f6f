import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0015_search"),
    ]

    operations = [
        migrations.CreateModel(
            name="SavedView",
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
                ("name", models.CharField(max_length=100)),
                ("note", models.CharField(blank=True, max_length=500)),
                (
                    "querystring",
                    models.CharField(
                        blank=True,
                        help_text="The part of the list's address after the question mark.",
                        max_length=2000,
                    ),
                ),
                (
                    "is_shared",
                    models.BooleanField(
                        default=False,
                        help_text="Other staff who may see the runs see it too.",
                        verbose_name="shared",
                    ),
                ),
                ("owner", models.CharField(editable=False, max_length=200)),
                ("tenant", models.CharField(blank=True, editable=False, max_length=64)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
            ],
            options={
                "verbose_name": "saved view",
                "indexes": [models.Index(fields=["owner", "name"], name="trajectories_view_owner")],
            },
        ),
    ]
