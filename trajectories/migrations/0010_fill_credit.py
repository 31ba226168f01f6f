from typing import Any

from django.db import migrations, transaction
from django.db.models import F, Max, OuterRef, Subquery, Sum

from trajectories.storage.archive_credit import fill_credit
from trajectories.storage.tenant_locks import lock_tenants

_BATCH = 1_000


def fill(apps: Any, schema_editor: Any) -> None:
    trajectory, phase = (apps.get_model("trajectories", name) for name in ("Trajectory", "Phase"))
    fill_credit(trajectory, phase, schema_editor.connection.alias)


def fill_unattributed(apps: Any, schema_editor: Any) -> None:
    """Compute the unattributed cost of the rows that exist: cost less the sum of the phases."""
    alias = schema_editor.connection.alias
    phases = apps.get_model("trajectories", "Phase").objects.filter(trajectory=OuterRef("pk")).order_by()
    in_phases = phases.values("trajectory").annotate(sum=Sum("cost_nano_usd")).values("sum")
    rows = apps.get_model("trajectories", "Trajectory").objects.using(alias)
    last = rows.aggregate(last=Max("pk"))["last"] or 0
    for start in range(0, last + 1, _BATCH):
        batch = rows.filter(pk__gte=start, pk__lt=start + _BATCH, cost_nano_usd__isnull=False)
        tenants = set(batch.order_by().values_list("tenant", flat=True).distinct())
        with transaction.atomic(using=alias):
            lock_tenants(rows.model, tenants, alias)
            batch.update(unattributed_nano_usd=F("cost_nano_usd") - Subquery(in_phases))


class Migration(migrations.Migration):
    # In small transactions, so that workers can write meanwhile.
    atomic = False

    dependencies = [
        ("trajectories", "0009_credit"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(fill_unattributed, migrations.RunPython.noop, elidable=True),
    ]
