from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0004_erasure"),
    ]

    operations = [
        migrations.CreateModel(
            name="StoreIdentity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("identity", models.CharField(max_length=12)),
            ],
        ),
    ]
