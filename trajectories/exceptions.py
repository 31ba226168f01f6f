"""The errors of this app, as one tree.

TrajectoriesError
├── InvalidInput            400  the request has an invalid value
├── AuthenticationFailure   401  no key, or an invalid one
├── ScopeMissing            403  the key is valid, but lacks the scope
├── QuotaExceeded           403  the tenant has as many records or bytes as it may have
├── NotFound                404
├── MethodNotAllowed        405
├── NotAcceptable           406  no format of the answer is one that the client accepts
├── RequestTimeout          408  the body did not arrive in time
├── Deleted                 409  the id was deleted permanently
├── IdempotencyConflict     409  the key was used for another outcome of the same target
├── TooManyOutcomes         409  the target has as many outcomes as it may have
├── InvalidToken            409  a deletion without the token of a dry run with the same filters
├── PhasesDropped           409  the body lacks phases that are stored, and does not ask to replace them
├── RevisionMismatch        412  the record has another revision than If-Match names
├── TooLarge                413
├── UnsupportedMediaType    415
├── RateLimited             429  over a key's rate limit, or too many invalid keys from one address;
│   │                            carries Retry-After
│   └── TooManyReads             too many long reads of one tenant at once
├── NotRead                 429  of a line: too many lines before it were refused
└── Unavailable             503  a tier that this answer needs is unavailable; carries Retry-After
    ├── Busy                     too many slow uploads at once
    ├── OutboxUnavailable        the record was not stored: outbox full, or a disk error
    ├── StoreMismatch            the outbox belongs to another store than the database
    ├── KeyLookupUnavailable     the key is not cached and the archive is unavailable
    ├── ArchiveUnavailable       the requested data is older than the hot cache
    ├── ExportBehind             earlier records of this host are not archived yet
    └── DeletionIncomplete       an unavailable tier still has records to delete
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of an input: path (``phases[0].cost_usd``), rule, and a sentence."""

    path: str
    code: str
    message: str


class TrajectoriesError(Exception):
    """Root of the tree. ``status``, ``type`` and ``code`` appear in the API's error response."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "server_error"
    retry_after_s: int | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.details = details


class InvalidInput(TrajectoriesError):
    """``found`` is the number of problems, of which ``details`` may have some."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_input"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        details: tuple[Problem, ...] = (),
        found: int = 1,
    ) -> None:
        super().__init__(message, code=code, param=param, details=details)
        self.found = found


class NotRead(TrajectoriesError):
    """A line of a request was not read, because too many lines before it were refused."""

    status = 429
    type = "rate_limit_error"
    code = "not_read"


class AuthenticationFailure(TrajectoriesError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ScopeMissing(TrajectoriesError):
    status = 403
    type = "permission_error"
    code = "scope_missing"


class QuotaExceeded(TrajectoriesError):
    status = 403
    type = "permission_error"
    code = "quota_exceeded"


class NotFound(TrajectoriesError):
    status = 404
    type = "not_found_error"
    code = "not_found"


class MethodNotAllowed(TrajectoriesError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Deleted(TrajectoriesError):
    status = 409
    type = "conflict_error"
    code = "deleted"


class IdempotencyConflict(TrajectoriesError):
    status = 409
    type = "conflict_error"
    code = "idempotency_conflict"


class TooManyOutcomes(TrajectoriesError):
    status = 409
    type = "conflict_error"
    code = "too_many_outcomes"


class InvalidToken(TrajectoriesError):
    status = 409
    type = "conflict_error"
    code = "invalid_token"


class PhasesDropped(TrajectoriesError):
    status = 409
    type = "conflict_error"
    code = "phases_would_be_dropped"


class RevisionMismatch(TrajectoriesError):
    status = 412
    type = "conflict_error"
    code = "revision_mismatch"


class NotAcceptable(TrajectoriesError):
    status = 406
    type = "invalid_request_error"
    code = "not_acceptable"


class RequestTimeout(TrajectoriesError):
    status = 408
    type = "invalid_request_error"
    code = "body_timeout"


class TooLarge(TrajectoriesError):
    status = 413
    type = "invalid_request_error"
    code = "too_large"


class UnsupportedMediaType(TrajectoriesError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class RateLimited(TrajectoriesError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class TooManyReads(RateLimited):
    code = "too_many_reads"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=1)


class Unavailable(TrajectoriesError):
    status = 503
    type = "unavailable_error"
    code = "unavailable"
    retry_after_s = 1


class Busy(Unavailable):
    code = "busy"


class OutboxUnavailable(Unavailable):
    code = "outbox_unavailable"


class StoreMismatch(Unavailable):
    """Data of another store: its outbox, or a message of its relay."""

    code = "store_mismatch"


class KeyLookupUnavailable(Unavailable):
    code = "key_lookup_unavailable"


class ArchiveUnavailable(Unavailable):
    code = "archive_unavailable"


class ExportBehind(Unavailable):
    code = "export_behind"


class DeletionIncomplete(Unavailable):
    code = "deletion_incomplete"
