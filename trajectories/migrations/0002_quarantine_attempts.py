from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trajectories", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="quarantined",
            name="attempts",
            field=models.PositiveIntegerField(
                db_default=1, help_text="1, and one more for each replay that was refused."
            ),
        ),
    ]
