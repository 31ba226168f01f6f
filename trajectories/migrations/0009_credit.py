from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0008_decision_columns"),
    ]

    operations = [
        migrations.AddField(
            model_name="phase",
            name="fit",
            field=models.CharField(max_length=16, null=True),
        ),
        migrations.AddField(
            model_name="phase",
            name="phase_id",
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name="phase",
            name="credited",
            field=models.CharField(max_length=8, null=True),
        ),
        migrations.AddField(
            model_name="phase",
            name="presence",
            field=models.CharField(max_length=8, null=True),
        ),
    ]
