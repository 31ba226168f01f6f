from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0019_key_last_used"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="source",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Source of the late outcomes that it sends, such as ci. Bodies cannot name one.",
                max_length=64,
            ),
        ),
    ]
