from typing import Any

from django.db import migrations, models
from django.db.models import BinaryField, Count, Func, Sum
from django.db.models.functions import Cast, Length


class _Octets(Func):
    function = "OCTET_LENGTH"
    output_field = models.BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # SQLite has no OCTET_LENGTH before 3.43; the length of a blob is in bytes.
        (text,) = self.get_source_expressions()
        return Length(Cast(text, BinaryField())).as_sql(compiler, connection, **context)


def count(apps: Any, schema_editor: Any) -> None:
    """Count what the archive has. Workers of this release count from here on."""
    alias = schema_editor.connection.alias
    tenants = apps.get_model("trajectories", "Tenant").objects.using(alias)
    rows = apps.get_model("trajectories", "Trajectory").objects.using(alias)
    for row in rows.order_by().values("tenant_id").annotate(n=Count("pk"), size=Sum(_Octets("body"))):
        tenants.filter(pk=row["tenant_id"]).update(record_count=row["n"], body_bytes=row["size"] or 0)


class Migration(migrations.Migration):
    dependencies = [
        ("trajectories", "0010_fill_credit"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="record_count",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name="tenant",
            name="body_bytes",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.RunPython(count, migrations.RunPython.noop),
    ]
