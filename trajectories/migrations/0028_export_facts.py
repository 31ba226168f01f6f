from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0027_phase_index"),
    ]

    operations = [
        migrations.AddField(
            model_name="trajectory",
            name="export_facts",
            field=models.IntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="trajectory",
            name="request_key",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="trajectory",
            name="content_key",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="trajectory",
            name="choice_key",
            field=models.BigIntegerField(editable=False, null=True),
        ),
    ]
