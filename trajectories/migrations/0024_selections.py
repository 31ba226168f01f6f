from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0023_unstarted_runs"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="selected_seq",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
