from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0025_cut_words"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="learned_seq",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
