from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0018_audit_target"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="last_used_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
