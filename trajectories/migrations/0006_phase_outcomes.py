from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0005_storeidentity"),
    ]

    operations = [
        migrations.AlterField(
            model_name="phase",
            name="outcome",
            field=models.CharField(max_length=16),
        ),
    ]
