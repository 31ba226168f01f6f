from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0004_erasure"),
    ]

    operations = [
        migrations.AlterField(
            model_name="phase",
            name="outcome",
            field=models.CharField(max_length=16),
        ),
    ]
