"""The description of each operation in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer

from trajectories.api import responses, stats_responses, training_responses
from trajectories.api.request_ids import HEADER
from trajectories.conf import RATE_LIMITS
from trajectories.domain.contract_types import FITS, NO_NUL, OUTCOMES
from trajectories.domain.credit import CREDITED, RULES, UNCREDITED
from trajectories.domain.dialects import CamelTrajectory
from trajectories.domain.late_outcomes import LateOutcome
from trajectories.domain.patch import TrajectoryPatch
from trajectories.domain.query import CURSOR_PATTERN, FILTERS, MAX_SEARCH_CHARS, SPAN_PATTERN, Filter
from trajectories.domain.schema import Trajectory
from trajectories.domain.stats import BUCKETS
from trajectories.training.encoding import COMPRESSIONS, FILES
from trajectories.training.formats import DEFAULT, FORMATS
from trajectories.training.formats.base import Option
from trajectories.training.readiness import MAX_RUNS, SAMPLE
from trajectories.training.splits import SPLIT_BY

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_NDJSON = "application/x-ndjson"
_PARQUET = "application/vnd.apache.parquet"
_FLAG = {"type": "string", "enum": ["0", "1"], "default": "0"}
_ETAGS_PATTERN = r'^(\*|(W/)?"[0-9]+"(, *(W/)?"[0-9]+")*)$'
_KINDS: Mapping[str, dict[str, Any]] = {
    "string": {"type": "string", "pattern": NO_NUL},
    "words": {"type": "string", "pattern": NO_NUL, "maxLength": MAX_SEARCH_CHARS},
    "boolean": {"type": "boolean"},
    "number": {"type": "number", "minimum": 0},
    "time": {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "date"},
            {"type": "string", "pattern": SPAN_PATTERN},
        ]
    },
    "outcome": {"type": "string", "enum": list(OUTCOMES)},
    "fit": {"type": "string", "enum": list(FITS)},
    "credited": {"type": "string", "enum": [*CREDITED, UNCREDITED]},
}
_ERRORS = {
    400: "The request says something that cannot be accepted; the message names it.",
    401: "No API key, or one that is unknown, revoked or expired.",
    403: "The API key lacks the scope, the tenant has reached its quota, or the request would delete everything.",
    404: "The tenant has no such trajectory.",
    408: "The body did not come within the time that it may take; nothing of it was taken.",
    409: "The id was deleted, and does not come back; or the body lacks phases that are stored; or the token is not of a"
    " dry run with these filters; or the idempotency key was used for another outcome, or the target has as many outcomes"
    " as it may have.",
    412: "The record has another revision than If-Match names.",
    413: "A record or the request is too large.",
    415: "Another Content-Type than the two, or a Content-Encoding that this server does not decode.",
    429: "More than the key may use in a minute, too many long reads of the tenant at once, or too many bad keys from"
    " this address; Retry-After says when to come again.",
    503: "A part that this answer needs is unavailable or busy; Retry-After says when to try again.",
}
# The defaults too, so that nothing of the host project's own document gets into ours. SERVE_* cannot be patched.


def _record() -> dict[str, Any]:
    body = _one_of("AnyTrajectory", Trajectory, CamelTrajectory)
    answer = _one_of("Recorded", responses.StoredTrajectory, responses.RecordedLines)
    stored = "Taken and durable on this host."
    return {
        "summary": "Record",
        "description": "Takes one trajectory as JSON, or one a line as NDJSON (16 MiB; 1,000 lines, and one more for each"
        " KiB up to 10,000): good lines in one commit, a bad line fails alone. After 10,000 problems in bad lines, the"
        " others get 429 `not_read`: send those again. Sending the same id again stores a new revision, or nothing if the body is the"
        " same. The camelCase body of an existing CLI is taken too. A body may have Content-Encoding gzip or zstd;"
        " limits count its decoded bytes.",
        "parameters": [
            _header("Idempotency-Key", "Decides the id of a body without one: the same key is the same record."),
            _header("X-Idempotency-Key", "The same, for clients that send this name."),
            parameter(
                "replace",
                {"type": "string", "enum": ["0", "1"], "default": "0"},
                "With 1, a body may lack phases that are stored. Else that is 409, in NDJSON for the line. It is not asked"
                " of the camelCase body.",
            ),
            _ETAG,
        ],
        "request": {_JSON: body, _NDJSON: {"type": "string", "description": "One trajectory a line."}},
        "responses": {
            200: OpenApiResponse(answer, description=f"{stored} This host knew the id already; or NDJSON was sent."),
            201: OpenApiResponse(responses.StoredTrajectory, description=f"{stored} This host had not known the id."),
        }
        | errors(400, 401, 403, 408, 409, 413, 415, 429, 503),
    }


def _update() -> dict[str, Any]:
    return {
        "summary": "Update",
        "description": "Changes fields of the run by JSON Merge Patch (RFC 7396): null deletes, objects are merged, other"
        " values replace. Elements of phases are merged into the phase of their phase_id, or appended. Sending the same"
        " patch again changes nothing more. Patches of one host are applied one after the other; across hosts the later"
        " one decides the whole record, so send If-Match where several hosts change one run.",
        "parameters": [
            OpenApiParameter("id", {"type": "string", "format": "uuid"}, OpenApiParameter.PATH),
            OpenApiParameter(
                "If-Match",
                {"type": "string", "pattern": _ETAGS_PATTERN},
                OpenApiParameter.HEADER,
                description="The ETag of an answer: change the record only if this host knows no other revision.",
            ),
            _ETAG,
        ],
        "request": {_MERGE_PATCH: TrajectoryPatch, _JSON: TrajectoryPatch},
        "responses": {
            200: OpenApiResponse(responses.StoredTrajectory, description="The patched record, durable on this host.")
        }
        | errors(400, 401, 403, 404, 408, 409, 412, 413, 415, 429, 503),
    }


def _list() -> dict[str, Any]:
    return {
        "summary": "List",
        "description": "Newest first. A page ends at limit or at 8 MiB.",
        "filters": False,
        "parameters": [
            *map(_filter, FILTERS.items()),
            parameter("cursor", {"type": "string", "pattern": CURSOR_PATTERN}, "next_cursor of the page before."),
            parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}, "Records on a page."),
        ],
        "responses": {200: responses.TrajectoryPage} | errors(400, 401, 403, 429, 503),
    }


def _retrieve() -> dict[str, Any]:
    return {
        "summary": "Retrieve",
        "parameters": [OpenApiParameter("id", {"type": "string", "format": "uuid"}, OpenApiParameter.PATH), _ETAG],
        "responses": {200: responses.StoredTrajectory} | errors(400, 401, 403, 404, 429, 503),
    }


def _stats() -> dict[str, Any]:
    return {
        "summary": "Stats",
        "description": "Totals and groups of all matching trajectories, exact but for percentiles, which are within 1 %.",
        "parameters": [
            *map(_filter, FILTERS.items()),
            parameter(
                "credit",
                {"type": "string", "enum": list(RULES)},
                "The rule of credited_success_rate and value_per_dollar. checks: what the tests, builds and reviews of the run"
                " said of the phase. phase_outcome: what the phase said. run_outcome: how the run ended. Default: the server's"
                " setting, which is checks unless changed.",
            ),
            parameter(
                "bucket",
                {"type": "string", "enum": list(BUCKETS)},
                "Adds series: the totals of each day or week (from Monday, UTC) in which runs started, or were recorded where"
                " the start is unknown.",
            ),
        ],
        "responses": {200: stats_responses.Stats} | errors(400, 401, 403, 429, 503),
    }


def _readiness() -> dict[str, Any]:
    return {
        "summary": "Readiness",
        "description": "Whether matching trajectories are worth training on: shares of what is known, overlap, duplicates, leaks, and a"
        " check of each against a threshold. Each check that fails says what to do. Measures a sample of the newest runs; matching"
        " says how many there are. manage.py readiness measures all.",
        "parameters": [
            *map(_filter, FILTERS.items()),
            parameter(
                "max_runs",
                {"type": "integer", "minimum": 1, "maximum": MAX_RUNS, "default": int(SAMPLE.runs)},
                f"How many runs to measure at most. An answer measures at most {SAMPLE.runs:,} of them,"
                f" {int(SAMPLE.size) // 2**20} MiB and {SAMPLE.phases:,} phases, also if this is larger.",
            ),
        ],
        "responses": {200: training_responses.Readiness} | errors(400, 401, 403, 429, 503),
    }


def _export() -> dict[str, Any]:
    return {
        "summary": "Export",
        "description": "One trajectory a line, or the lines of another format, in the order in which the archive first got the"
        " trajectories. With end=1 the last line is an object `end` with count, cursor and sha256 of the lines before it; without"
        " that line the export was cut: go on with after.",
        "parameters": [
            *_export_parameters(),
            parameter("file", {"type": "string", "enum": list(FILES), "default": FILES[0]}, "Lines or Parquet."),
            parameter(
                "compression",
                {"type": "string", "enum": list(COMPRESSIONS)},
                "Content-Encoding of lines, by default none; inside Parquet zstd by default.",
            ),
            parameter("after", {"type": "string", "format": "uuid"}, "Go on behind the lines of this id."),
            parameter("end", _FLAG, "Close with an end line."),
        ],
        "responses": {
            (200, _NDJSON): {"type": "string", "description": "One trajectory a line, or rows of the format."},
            (200, _PARQUET): {"type": "string", "format": "binary", "description": "The rows, with file=parquet."},
        }
        | errors(400, 401, 403, 404, 429, 503),
    }


def _export_manifest() -> dict[str, Any]:
    return {
        "summary": "Manifest of an export",
        "description": "Counts, origin, columns and SHA-256 of the lines that an export with the same parameters has now, and what it"
        " leaves out. It reads as much as the export.",
        "parameters": _export_parameters(),
        "responses": {200: training_responses.ExportManifest} | errors(400, 401, 403, 429, 503),
    }


def _export_parameters() -> list[OpenApiParameter]:
    options = {name: option for one in FORMATS.values() for name, option in one.options.items()}
    return [
        *map(_filter, FILTERS.items()),
        parameter("format", {"type": "string", "enum": list(FORMATS), "default": DEFAULT}, "Format of the lines."),
        parameter("split", {"type": "string"}, "Parts and their shares, such as train=0.9,test=0.1. Needs part."),
        parameter(
            "split_by",
            {"type": "string", "enum": list(SPLIT_BY), "default": SPLIT_BY[0]},
            "Runs that share it are in the same part.",
        ),
        parameter("part", {"type": "string"}, "The part of the split to export."),
        parameter("dedupe", _FLAG, "Leave out runs of the same request with the same phases, except the first."),
        *(parameter(name, {"type": "string"}, _option(name, option)) for name, option in options.items()),
    ]


def _option(name: str, option: Option) -> str:
    having = [one.name for one in FORMATS.values() if name in one.options]
    return f"{option.description} For {', '.join(having)}."


def _record_outcome() -> dict[str, Any]:
    return {
        "summary": "Record a late outcome",
        "description": "Takes one outcome of the trajectory that is known after the run, such as a merged pull request. It is"
        " appended, and changes no field of the run. The trajectory need not have come yet. The same Idempotency-Key is the"
        " same outcome; without one, outcomes that are equal are one. The source is that of the API key.",
        "parameters": [
            OpenApiParameter("id", {"type": "string", "format": "uuid"}, OpenApiParameter.PATH),
            *_OUTCOME_KEYS,
        ],
        "request": {_JSON: LateOutcome},
        "responses": _OUTCOME_RESPONSES | errors(400, 401, 403, 404, 408, 409, 413, 415, 429, 503),
    }


def _record_outcomes() -> dict[str, Any]:
    answer = _one_of("RecordedOutcome", responses.StoredOutcome, responses.RecordedOutcomeLines)
    return {
        "summary": "Record late outcomes by target",
        "description": "As record_outcome, for one outcome as JSON or one a line as NDJSON: good lines in one commit, a bad line"
        " fails alone. Each has a trajectory_id, or a reference such as a pull request, a commit or a session. An outcome of"
        " a reference is one of each run that names it in external_refs or session_id, also of runs that come later.",
        "parameters": _OUTCOME_KEYS,
        "request": {_JSON: LateOutcome, _NDJSON: {"type": "string", "description": "One outcome a line."}},
        "responses": _OUTCOME_RESPONSES
        | {200: OpenApiResponse(answer, description="This host knew the outcome already; or NDJSON was sent.")}
        | errors(400, 401, 403, 408, 409, 413, 415, 429, 503),
    }


def _list_outcomes() -> dict[str, Any]:
    return {
        "summary": "Late outcomes",
        "description": "The late outcomes of one trajectory, in the order of their acceptance.",
        "filters": False,
        "parameters": [OpenApiParameter("id", {"type": "string", "format": "uuid"}, OpenApiParameter.PATH)],
        "responses": {200: responses.OutcomeList} | errors(400, 401, 403, 404, 429, 503),
    }


def _delete_one() -> dict[str, Any]:
    return {
        "summary": "Delete",
        "description": "For good: from outbox, Redis, archive and quarantine; the id is not taken again. Repeating is safe. 503 names the"
        " part that is unavailable and still has it.",
        "parameters": [OpenApiParameter("id", {"type": "string", "format": "uuid"}, OpenApiParameter.PATH)],
        "responses": {200: responses.DeletedTrajectory} | errors(400, 401, 403, 404, 429, 503),
    }


def _delete_matching() -> dict[str, Any]:
    answer = _one_of("DeletionAnswer", responses.MatchingTrajectories, responses.DeletedTrajectories)
    return {
        "summary": "Delete by filters",
        "description": "First with dry_run=1, which counts and gives a token; then with the same filters and the token. What has come or"
        " was revised since the dry run stays. At least one filter is needed.",
        "filters": False,
        "parameters": [
            *map(_filter, FILTERS.items()),
            parameter("dry_run", _FLAG, "Count, delete nothing."),
            parameter("token", {"type": "string"}, "Of the dry run."),
        ],
        "responses": {200: answer} | errors(400, 401, 403, 409, 429, 503),
    }


def _answer_header(name: str, schema: dict[str, Any], description: str, statuses: list[int | str]) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, response=statuses)


_ETAG = _answer_header("ETag", {"type": "string"}, "Of one record: its revision, in quotes; for If-Match.", [200, 201])
_AMOUNT = {"type": "integer", "minimum": 0}
_LIMITED: list[int | str] = [200, 201, 429]  # every answer has them; of errors the document says it once
_OUTCOME_KEYS = [
    OpenApiParameter(
        name,
        {"type": "string", "maxLength": 255},
        OpenApiParameter.HEADER,
        description=f"{what} One in the body comes first. Not for NDJSON.",
    )
    for name, what in (
        ("Idempotency-Key", "The same key for the same target is the same outcome."),
        ("X-Idempotency-Key", "The same, for clients that send this name."),
    )
]
_OUTCOME_RESPONSES = {
    200: OpenApiResponse(responses.StoredOutcome, description="This host knew the outcome already."),
    201: OpenApiResponse(responses.StoredOutcome, description="Taken and durable on this host."),
}
ANSWER_HEADERS = [
    OpenApiParameter(
        HEADER,
        {"type": "string"},
        OpenApiParameter.HEADER,
        description="Under which the request is in the log: the caller's, where it is at most 64 of A-Z a-z 0-9 . _ -, else a new one.",
        response=True,
    ),
    _answer_header("Retry-After", _AMOUNT, "Seconds until it is worth coming again.", [429, 503]),
    _answer_header("X-RateLimit-Limit", _AMOUNT, "Where keys have limits: what this one may use a minute.", _LIMITED),
    _answer_header("X-RateLimit-Remaining", _AMOUNT, "What is left of it.", _LIMITED),
    _answer_header("X-RateLimit-Reset", _AMOUNT, "Seconds until more is left.", _LIMITED),
    _answer_header(
        "X-RateLimit-Resource",
        {"type": "string", "enum": list(RATE_LIMITS)},
        "Which limit it is: the one that would refuse first, or has refused.",
        _LIMITED,
    ),
]
OPERATIONS = {
    "record": _record,
    "update": _update,
    "list": _list,
    "retrieve": _retrieve,
    "stats": _stats,
    "readiness": _readiness,
    "export": _export,
    "export_manifest": _export_manifest,
    "list_outcomes": _list_outcomes,
    "record_outcome": _record_outcome,
    "record_outcomes": _record_outcomes,
    "delete_one": _delete_one,
    "delete_matching": _delete_matching,
}


def _one_of(name: str, *models: Any) -> PolymorphicProxySerializer:
    return PolymorphicProxySerializer(name, list(models), resource_type_field_name=None)


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    return {status: OpenApiResponse(responses.ErrorBody, description=_ERRORS[status]) for status in statuses}


def _filter(item: tuple[str, Filter]) -> OpenApiParameter:
    name, filter_ = item
    return parameter(name, _KINDS[filter_.kind], filter_.description)


def parameter(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=description, required=required)


def _header(name: str, description: str) -> OpenApiParameter:
    return OpenApiParameter(
        name, {"type": "string", "maxLength": 255}, OpenApiParameter.HEADER, description=description
    )
