from django.db import migrations, models


class Migration(migrations.Migration):
    """Columns of one table only: a worker locks runs, then phases, and a migration that locks both at
    once could wait for a worker that waits for it."""

    dependencies = [
        ("trajectories", "0007_audit_entry"),
    ]

    operations = [
        migrations.AddField(
            model_name="trajectory",
            name="parent_id",
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name="trajectory",
            name="policy",
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name="trajectory",
            name="unattributed_nano_usd",
            field=models.BigIntegerField(null=True),
        ),
    ]
