"""The archive: Django models, written by the persist side only.

Lists, stats, exports and the admin read it.

Times are integers in microseconds since 1970, so that a position is exact whatever ``USE_TZ`` is in
the host project.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from rest_framework_api_key.crypto import KeyGenerator

from trajectories.audit_trail import AuditAction as AuditAction
from trajectories.audit_trail import AuditEntry as AuditEntry
from trajectories.audit_trail import Erasure as Erasure
from trajectories.domain.compression import from_columns
from trajectories.domain.record import tenant_digest
from trajectories.domain.text import visible
from trajectories.exceptions import InvalidInput
from trajectories.workspace import Annotation as Annotation
from trajectories.workspace import SavedView as SavedView

SCOPES = ("record", "read", "export", "admin")
SLUG_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"
"""Valid tenant slugs. A slug is part of Redis keys and of their hash tag, so it has no braces."""


class Tenant(models.Model):
    """The owner of records.

    ``last_seq`` and ``last_changed`` are the last assigned numbers; locking the row orders writers.
    ``record_count`` and ``body_bytes`` are those of its records in the archive.

    ``rolled_seq`` and ``rolled_changed`` are what its roll-ups have seen; ``rolled_cells`` counts
    the all-time ones; ``rollup_cut`` is a ``rollups.Cut``. ``selected_seq`` is how far its
    selections have come, -1 if it has too many for them, and ``learned_seq`` how far its sums of
    choices have.
    """

    slug = models.CharField(max_length=64, primary_key=True, validators=[RegexValidator(SLUG_PATTERN)])
    name = models.CharField(max_length=200, blank=True)
    last_seq = models.BigIntegerField(default=0, editable=False)
    last_changed = models.BigIntegerField(default=0, editable=False)
    record_count = models.BigIntegerField(default=0, db_default=0, editable=False)
    body_bytes = models.BigIntegerField(default=0, db_default=0, editable=False)
    rolled_seq = models.BigIntegerField(default=0, db_default=0, editable=False)
    rolled_changed = models.BigIntegerField(default=0, db_default=0, editable=False)
    rolled_cells = models.BigIntegerField(default=0, db_default=0, editable=False)
    rollup_cut = models.SmallIntegerField(default=0, db_default=0, editable=False)
    selected_seq = models.BigIntegerField(default=0, db_default=0, editable=False)
    learned_seq = models.BigIntegerField(default=0, db_default=0, editable=False)

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        if Erasure.objects.filter(pk=tenant_digest(self.slug)).exists():
            raise ValidationError(
                {"slug": "A tenant of this name was erased; late copies of its records are still dropped by the name."}
            )


class ApiKeyManager(models.Manager["ApiKey"]):
    def issue(
        self,
        *,
        tenant: Tenant,
        name: str,
        scopes: Iterable[str],
        source: str = "",
        expires_at: datetime | None = None,
        actor: str = "code",
    ) -> tuple[ApiKey, str]:
        """Create a key, and return it with its text, which is not stored and cannot be shown again.

        Args:
            source: the source of the late outcomes that it sends, such as ci; "" for none.
            actor: who creates it, for the audit trail.

        Raises:
            InvalidInput: a scope is not one of SCOPES, or no scope is given.
        """
        wanted = list(dict.fromkeys(scopes))
        wrong = [scope for scope in wanted if scope not in SCOPES]
        if wrong or not wanted:
            raise InvalidInput(f"Scopes are {', '.join(SCOPES)}; not {', '.join(wrong) or 'none'}.", param="scopes")
        text, prefix, hashed_key = KeyGenerator(prefix_length=KEY_PREFIX_LENGTH).generate()
        key = self.create(
            tenant=tenant,
            name=name,
            prefix=prefix,
            hashed_key=hashed_key,
            scopes=" ".join(wanted),
            source=source,
            expires_at=expires_at,
        )
        AuditEntry.objects.note("create_key", actor, {tenant.pk: 1}, prefix)
        return key, text


KEY_PREFIX_LENGTH = 12


class ApiKey(models.Model):
    """A key of a tenant. Only its hash is stored."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=200, blank=True)
    prefix = models.CharField(max_length=KEY_PREFIX_LENGTH, unique=True, editable=False)
    hashed_key = models.CharField(max_length=150, editable=False)
    scopes = models.CharField(max_length=100, help_text="Of record, read, export, admin; separated by blanks.")
    source = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="Source of the late outcomes that it sends, such as ci. Bodies cannot name one.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    is_revoked = models.BooleanField(default=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    """Written at most every ten minutes."""

    objects: ClassVar[ApiKeyManager] = ApiKeyManager()

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return visible(f"{self.prefix}… {self.name}".strip())


class _Version(models.Model):
    """A version of a trajectory with its stamps, as in ``record.Record``."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    trajectory_id = models.UUIDField()
    stamp = models.BigIntegerField()
    digest = models.CharField(max_length=32)
    revision = models.BigIntegerField()
    recorded_at_us = models.BigIntegerField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.trajectory_id)


class Trajectory(_Version):
    """One trajectory: its canonical bytes, and the values that filters and stats need, in columns.

    ``seq`` is the order in which ids were first archived, and never changes. ``changed`` grows with
    every visible change. ``outcomes`` is a JSON list of its late outcomes, apart from the body.
    """

    seq = models.BigIntegerField()
    changed = models.BigIntegerField()
    request_type = models.TextField(null=True)
    source = models.TextField(null=True)
    project = models.TextField(null=True)
    policy = models.TextField(null=True)
    parent_id = models.UUIDField(null=True)
    outcome = models.CharField(max_length=8)
    build_passed = models.BooleanField(null=True)
    tests_passed = models.BooleanField(null=True)
    tags = models.TextField()
    started_at_us = models.BigIntegerField(null=True)
    cost_nano_usd = models.BigIntegerField(null=True)
    cost_nano_usd_bucket = models.SmallIntegerField(null=True)
    unattributed_nano_usd = models.BigIntegerField(null=True)
    duration_us = models.BigIntegerField(null=True)
    duration_us_bucket = models.SmallIntegerField(null=True)
    input_tokens = models.BigIntegerField(null=True)
    input_tokens_bucket = models.SmallIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    output_tokens_bucket = models.SmallIntegerField(null=True)
    tokens = models.BigIntegerField(null=True)
    tokens_bucket = models.SmallIntegerField(null=True)
    phase_count = models.SmallIntegerField()
    # Last, so that a scan of the earlier columns does not read past them.
    request_summary_folded = models.TextField()
    # Empty where ``compressed_body`` has it. A body of both is that of an earlier release, which
    # writes no compressed one.
    body = models.TextField()
    compressed_body = models.BinaryField(null=True)
    # A database default, so that a process of the previous release can still write here.
    outcomes = models.TextField(default="", db_default="", editable=False)
    outcome_count = models.IntegerField(default=0, db_default=0, editable=False)
    # ``domain.export_facts``. Null in rows of releases that did not know them; ``manage.py fill_credit``
    # fills them.
    export_facts = models.IntegerField(null=True, editable=False)
    request_key = models.BigIntegerField(null=True, editable=False)
    project_bucket = models.IntegerField(null=True, editable=False)
    content_key = models.BigIntegerField(null=True, editable=False)
    choice_key = models.BigIntegerField(null=True, editable=False)
    # ``domain.packed_phases``, of this revision. Sums read the rows of phases where it is not.
    packed_phases = models.BinaryField(null=True)

    class Meta:
        verbose_name_plural = "trajectories"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "trajectory_id"], name="trajectories_once_per_tenant"),
            models.UniqueConstraint(fields=["tenant", "seq"], name="trajectories_seq_once"),
        ]
        indexes: ClassVar = [
            # Without the id, which orders runs of one microsecond: it would take two thirds of the index.
            models.Index(fields=["tenant", "-recorded_at_us"], name="trajectories_of_tenant"),
            models.Index(fields=["-recorded_at_us"], name="trajectories_recorded"),
            models.Index(fields=["tenant", "changed"], name="trajectories_changed"),
            models.Index(fields=["tenant", "project", "-recorded_at_us"], name="trajectories_project"),
            models.Index(fields=["tenant", "source", "-recorded_at_us"], name="trajectories_source"),
            models.Index(fields=["tenant", "request_type", "-recorded_at_us"], name="trajectories_request_type"),
            models.Index(
                fields=["tenant", "recorded_at_us"],
                condition=models.Q(started_at_us=None),
                name="trajectories_unstarted",
            ),
            # All that an export reads of a run that yields no line.
            models.Index(
                fields=["tenant", "seq", "export_facts", "request_key", "project_bucket"], name="trajectories_exported"
            ),
        ]

    @property
    def canonical(self) -> bytes:
        """Return the canonical body, however it is stored."""
        return from_columns(self.body, self.compressed_body)


class Phase(models.Model):
    """One phase of a trajectory, by its place in the list.

    ``phase`` is the group, ``phase_name`` the name as sent.
    """

    # The unique constraint below already provides the index.
    trajectory = models.ForeignKey(Trajectory, on_delete=models.CASCADE, related_name="phases", db_index=False)
    place = models.SmallIntegerField()
    phase_name = models.TextField()
    phase_id = models.TextField(null=True)
    phase = models.TextField()
    model = models.TextField(null=True)
    requested_model = models.TextField(null=True)
    selection_method = models.TextField(null=True)
    selection_probability = models.FloatField(null=True)
    agent = models.TextField(null=True)
    tools = models.TextField()
    outcome = models.CharField(max_length=16)
    skip_reason = models.TextField(null=True)
    # Null in rows of releases that did not know these two; ``manage.py fill_credit`` fills them.
    credited = models.CharField(max_length=8, null=True)
    presence = models.CharField(max_length=8, null=True)
    fit = models.CharField(max_length=16, null=True)
    attempt = models.BigIntegerField(null=True)
    cost_nano_usd = models.BigIntegerField(null=True)
    duration_us = models.BigIntegerField(null=True)
    input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["trajectory", "place"], name="trajectories_phase_place"),
        ]

    def __str__(self) -> str:
        return visible(self.phase_name)


class LateOutcome(models.Model):
    """A late outcome by its target: the id of a trajectory, or of a reference
    (``domain.late_outcomes``).

    It stays when its run has not come yet, and ``Trajectory.outcomes`` has it when the run has
    come.
    """

    # Without a constraint: a process of the previous release deletes tenants and runs, and a migration
    # that locked two tables would deadlock with a worker.
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_constraint=False, related_name="+", db_index=False)
    outcome_id = models.UUIDField()
    target_id = models.UUIDField()
    stamp = models.BigIntegerField()
    body = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "outcome_id"], name="trajectories_outcome_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "target_id"], name="trajectories_outcome_target"),
            models.Index(fields=["stamp"], name="trajectories_outcome_stamp"),
        ]

    def __str__(self) -> str:
        return str(self.outcome_id)


class Reference(models.Model):
    """A reference of a trajectory, such as its pull request, by the id that it is as a target."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_constraint=False, related_name="+", db_index=False)
    trajectory = models.ForeignKey(
        Trajectory, on_delete=models.CASCADE, db_constraint=False, related_name="references", db_index=False
    )
    reference_id = models.UUIDField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["trajectory", "reference_id"], name="trajectories_reference_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "reference_id"], name="trajectories_reference_target")]

    def __str__(self) -> str:
        return str(self.reference_id)


class RunOutcome(models.Model):
    """A late outcome of a trajectory as stats count it; the columns are ``LateFacets``."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, db_constraint=False, related_name="+", db_index=False)
    trajectory = models.ForeignKey(
        Trajectory, on_delete=models.CASCADE, db_constraint=False, related_name="late", db_index=True
    )
    name = models.TextField()
    place = models.SmallIntegerField(null=True)
    is_true = models.BooleanField(null=True)
    value_micro = models.BigIntegerField(null=True)
    fit = models.CharField(max_length=16, null=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["tenant", "name"], name="trajectories_run_outcome")]

    def __str__(self) -> str:
        return visible(self.name)


class SearchEntry(models.Model):
    """The words of a trajectory, for full-text search; ``storage.search_index`` writes it.

    It is a virtual table (FTS5) in SQLite, and ``words`` is a ``tsvector`` in Postgres. Django
    knows the table, so that ``flush`` empties it, and does not create it.
    """

    trajectory_pk = models.BigIntegerField(primary_key=True, db_column="rowid")
    words = models.TextField()

    class Meta:
        default_permissions = ()  # it has no page
        db_table = "trajectories_search"

    def __str__(self) -> str:
        return str(self.trajectory_pk)


class RollUp(models.Model):
    """Sums over the records of a tenant that share the five columns below; see
    ``storage/rollups.py``.

    With ``is_total`` they are over all records, and the five are null. ``day`` is the UTC day of
    ``recorded_at_us`` and ``start`` that of ``started_at_us``, in days since 1970. Rows of all time
    have -1 and 0 there, those of selections -2 and 0, those of choices -3 and the first day of a
    week.
    """

    key = models.CharField(max_length=32, primary_key=True)
    # Without a constraint, so that a process of the previous release can delete a tenant.
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False)
    day = models.IntegerField()
    start = models.IntegerField()
    is_total = models.BooleanField()
    request_type = models.TextField(null=True)
    source = models.TextField(null=True)
    project = models.TextField(null=True)
    policy = models.TextField(null=True)
    outcome = models.CharField(max_length=8, null=True)
    # JSON. The sums of trajectories are apart, because most answers read only these of most rows.
    cell = models.TextField()
    details = models.TextField()

    class Meta:
        verbose_name = "roll-up"
        indexes: ClassVar = [
            models.Index(fields=["tenant", "is_total", "day", "project"], name="trajectories_rollup_day"),
        ]

    def __str__(self) -> str:
        return self.key


class Tombstone(models.Model):
    """A deleted id: every version of it is rejected.

    ``seq`` is its former place in exports, if it had one; ``changed`` is that of its deletion.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    trajectory_id = models.UUIDField()
    stamp = models.BigIntegerField()
    seq = models.BigIntegerField(null=True)
    changed = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "trajectory_id"], name="trajectories_buried_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "changed"], name="trajectories_buried_changed"),
            models.Index(fields=["stamp"], name="trajectories_buried_stamp"),
        ]

    def __str__(self) -> str:
        return str(self.trajectory_id)


class StoreIdentity(models.Model):
    """The identity of this store: one row, created when the identity is first needed.

    Redis keys, task messages and outbox files carry it, so that a store never takes another store's
    data for its own. A new database is a new store.
    """

    identity = models.CharField(max_length=12)

    def __str__(self) -> str:
        return self.identity


class Quarantined(_Version):
    """A version of a record that the archive refused, kept with the reason until it is replayed."""

    body = models.BinaryField()
    error = models.TextField()
    quarantined_at = models.DateTimeField(default=timezone.now)
    # A database default, so that a process of the previous release can still write here.
    attempts = models.PositiveIntegerField(db_default=1, help_text="1, and one more for each replay that was refused.")

    class Meta:
        verbose_name = "quarantined record"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "trajectory_id", "stamp"], name="trajectories_quarantined_once"),
        ]
