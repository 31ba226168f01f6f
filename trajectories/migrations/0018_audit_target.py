from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0017_annotations"),
    ]

    operations = [
        migrations.AlterField(
            model_name="auditentry",
            name="target",
            field=models.CharField(blank=True, max_length=256),
        ),
    ]
