"""The store's API in memory, as an HTTP transport for tests."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

import httpx2

from trajectories_sdk.client import AsyncClient, Client
from trajectories_sdk.client_queue import Background
from trajectories_sdk.flow import JSON, MERGE_PATCH, NDJSON, PATH
from trajectories_sdk.models import StoredTrajectory
from trajectories_sdk.outcome_recording import PATH as OUTCOMES
from trajectories_sdk.spool import Spool
from trajectories_sdk.testing.credit import RULES
from trajectories_sdk.testing.facets import Facets, query_of, time_us
from trajectories_sdk.testing.measures import Measures, Run
from trajectories_sdk.testing.messages import (
    SeenRequest,
    Stream,
    answer,
    choice_of,
    cursor_of,
    number_of,
    parameters,
    parse_id,
    position_of,
    removed_counts,
    replaces,
    stored_answer,
)
from trajectories_sdk.testing.readiness_checks import checks, note
from trajectories_sdk.testing.recommendations import LEARNING, learning_answer
from trajectories_sdk.testing.refusals import MAX_SHORT_MESSAGE, Refusal, shorten
from trajectories_sdk.testing.stats import stats_of
from trajectories_sdk.testing.store import (
    BYTES_PER_LINE,
    MAX_LINES,
    MAX_RECORD_BYTES,
    MAX_REQUEST_BYTES,
    SERVER_FIELDS_BYTES,
    SHORT_LINES,
    Store,
    matching,
    rfc3339,
)

_MAX_FULL_LINES: Final = 100
"""Lines of an answer with all problems, and lines with all warnings, in full."""
_MAX_LINE_DETAILS: Final = 10
API_KEY: Final = "key-of-the-test-server"
BASE_URL: Final = "http://trajectories.test"
_MAX_OUTCOME_BYTES: Final = 16 * 1024
_LIST_LIMIT: Final = 50
_LIST_LIMIT_MAX: Final = 1_000
_READINESS_RUNS: Final = 750
_READINESS_PHASES: Final = 10_000
_READINESS_BYTES: Final = 3 * 1024**2
_READINESS_RUNS_MAX: Final = 1_000_000
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Failure:
    """The planned failure of a request; ``status`` None breaks the connection."""

    status: int | None
    code: str
    message: str
    headers: Mapping[str, str]


class InMemoryServer(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """The store's API in memory: contract, versions, filters, stats, readiness, export and
    deletion.

    It is not durable and has one tenant. It has no scopes and no rate limits, and does not redact
    credentials. It is a blocking and an async transport, so ``Client(transport=server)`` works too.
    Clients made by ``client()`` retry without delay, and keep their background queue in memory.

    Args:
        clock: returns the current time, for ``recorded_at`` and ``revision``.
    """

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: deque[_Failure] = deque()
        self._cuts: deque[int] = deque()
        self._recommended: deque[str] = deque()
        self._clients: list[Client] = []
        self._requests: list[SeenRequest] = []
        self._store = Store(clock)
        self._tokens: dict[str, tuple[dict[str, str], int]] = {}

    def client(self, **options: Any) -> Client:
        """Return a client of this server with these options of ``Client``. It is closed with the
        server."""
        client = Client(BASE_URL, API_KEY, transport=self, **options)
        client._driver.sleep = _no_wait
        if "spool_dir" not in options:  # a shared directory would leak records into the next test
            client._background = Background(client.config, self, Spool(None), client._adjustments, client._warning_log)
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> AsyncClient:
        """Like ``client``. It holds nothing that must be closed."""
        client = AsyncClient(BASE_URL, API_KEY, transport=self, **options)
        client._driver.sleep = _no_async_wait
        if "spool_dir" not in options:  # a shared directory would leak records into the next test
            client._background = Background(client.config, self, Spool(None), client._adjustments, client._warning_log)
        return client

    @property
    def records(self) -> list[StoredTrajectory]:
        """Return the stored records, in order of first arrival."""
        with self._lock:
            return [StoredTrajectory.model_validate_json(stored.json()) for stored in self._store.in_order()]

    @property
    def requests(self) -> list[SeenRequest]:
        """Return all received requests, including retries."""
        with self._lock:
            return list(self._requests)

    def fail_next(
        self,
        status: int,
        *,
        times: int = 1,
        code: str = "failed_by_test",
        message: str = "The test requested this failure.",
        retry_after_s: int | None = None,
    ) -> None:
        """Respond to the next requests with an error, without processing them. Calls add up, in
        order."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self._failures.extend([_Failure(status, code, message, headers)] * times)

    def drop_next(self, *, times: int = 1) -> None:
        """Break the connection of the next requests, like an unreachable server."""
        self._failures.extend([_Failure(None, "", "", {})] * times)

    def recommend_next(self, model: str) -> None:
        """Recommend this model next, with probability 1. Calls add up, in order."""
        self._recommended.append(model)

    def cut_next_export(self, *, after_bytes: int) -> None:
        """Break off the next export in the middle of its response."""
        self._cuts.append(after_bytes)

    def clear(self) -> None:
        """Delete all records, requests and planned failures."""
        with self._lock:
            self._store = Store(self._clock)
            for stored in (self._failures, self._cuts, self._recommended, self._requests, self._tokens):
                stored.clear()

    def close(self) -> None:
        """Do nothing: clients close their transport, but the server must go on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        for client in self._clients:
            client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.__exit__()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._respond(request, request.read())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._respond(request, await request.aread())

    def _respond(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        with self._lock:
            seen = SeenRequest(request.method, request.url.path, dict(request.url.params), dict(request.headers), body)
            try:
                response = self._planned_failure(request) or self._serve(seen)
            except Refusal as refusal:
                response = httpx2.Response(refusal.status, json={"error": refusal.error})
            except httpx2.TransportError:
                self._requests.append(seen)
                raise
            response.headers["X-Request-Id"] = request_id
            self._requests.append(
                SeenRequest(seen.method, seen.path, seen.query, seen.headers, body, response.status_code)
            )
        return response

    def _planned_failure(self, request: httpx2.Request) -> httpx2.Response | None:
        if not self._failures:
            return None
        failure = self._failures.popleft()
        if failure.status is None:
            raise httpx2.ConnectError("The test broke this connection.", request=request)
        refusal = Refusal(failure.status, failure.code, failure.message)
        return httpx2.Response(failure.status, json={"error": refusal.error}, headers=failure.headers)

    def _serve(self, seen: SeenRequest) -> httpx2.Response:
        if seen.headers.get("authorization") != f"Bearer {API_KEY}":
            raise Refusal(401, "invalid_api_key", "The API key is unknown.")
        if seen.path == OUTCOMES and seen.method == "POST":
            return self._record_outcomes(seen)
        match seen.method, seen.path.removeprefix(PATH):
            case "POST", "":
                return self._record(seen)
            case "GET", "":
                return self._list(seen)
            case "DELETE", "":
                return self._delete_matching(seen)
            case "GET", "/stats":
                return self._stats(seen)
            case _, path if path in LEARNING:
                return answer(learning_answer(path, seen.body, self._recommended))
            case "GET", "/readiness":
                return self._readiness(seen)
            case "GET", "/export":
                return self._export(seen)
            case "GET", path if path.endswith("/outcomes"):
                stored = self._store.find(parse_id(path.removesuffix("/outcomes")))
                return answer({"data": self._store.late.of(json.loads(stored.body))})
            case "POST", path if path.endswith("/outcomes"):
                return self._record_outcome(seen, parse_id(path.removesuffix("/outcomes")))
            case "GET", path if path.startswith("/"):
                return stored_answer(self._store.find(parse_id(path)))
            case "PATCH", path if path.startswith("/"):
                return self._update(seen, parse_id(path))
            case "DELETE", path if path.startswith("/"):
                id_ = parse_id(path)
                return answer({"id": str(id_), "deleted": True, "removed": removed_counts(self._store.delete(id_))})
        raise Refusal(404, "not_found", "No such endpoint.")

    def _record(self, seen: SeenRequest) -> httpx2.Response:
        content_type, is_replacing = seen.headers.get("content-type", ""), replaces(seen)
        refuse_over(MAX_RECORD_BYTES + SERVER_FIELDS_BYTES if content_type == JSON else MAX_REQUEST_BYTES, seen.body)
        if content_type == JSON:
            stored, is_new = self._store.record(seen.body, replace=is_replacing)
            return stored_answer(stored, status=201 if is_new else 200)
        if content_type != NDJSON:
            raise Refusal(415, "unsupported_media_type", f"Content-Type must be {JSON} or {NDJSON}.")
        most = min(MAX_LINES, SHORT_LINES + len(seen.body) // BYTES_PER_LINE)
        if seen.body.count(b"\n") > most:
            raise Refusal(413, "too_many_lines", f"A request of this size may have {most} lines.")
        numbered = enumerate(seen.body.split(b"\n"), 1)
        results = [self._line(number, line, replace=is_replacing) for number, line in numbered if line.strip()]
        errors = [result["error"] for result in results if "error" in result]
        shorten(errors, max_details=_MAX_LINE_DETAILS)
        for result in [result for result in results if "warnings" in result][_MAX_FULL_LINES:]:
            for warning in result["warnings"]:
                warning["message"] = warning["message"][:MAX_SHORT_MESSAGE]
        refused = len(errors)
        return answer({"accepted": len(results) - refused, "refused": refused, "results": results})

    def _line(self, number: int, line: bytes, *, replace: bool) -> dict[str, Any]:
        try:
            stored, is_new = self._store.record(line, replace=replace)
        except Refusal as refusal:
            return {"line": number, "status": refusal.status, "error": refusal.error}
        result = {"line": number, "id": str(stored.id), "status": 201 if is_new else 200, "revision": stored.revision}
        warnings = stored.warnings(_MAX_LINE_DETAILS)
        return result | ({"warnings": warnings} if warnings else {})

    def _record_outcome(self, seen: SeenRequest, id_: UUID | None = None) -> httpx2.Response:
        refuse_over(_MAX_OUTCOME_BYTES, seen.body)
        found, is_new = self._store.record_outcome(seen.body, id_, seen.headers.get("idempotency-key"))
        return answer(found, status=201 if is_new else 200)

    def _record_outcomes(self, seen: SeenRequest) -> httpx2.Response:
        if seen.headers.get("content-type", "") != NDJSON:
            return self._record_outcome(seen)
        results: list[dict[str, Any]] = []
        for number, line in enumerate(seen.body.split(b"\n"), 1):
            if line.strip():
                try:
                    found, is_new = self._store.record_outcome(line)
                except Refusal as refusal:
                    results.append({"line": number, "status": refusal.status, "error": refusal.error})
                else:
                    results.append({"line": number, "id": found["id"], "status": 201 if is_new else 200})
        errors = [result["error"] for result in results if "error" in result]
        shorten(errors, max_details=1)
        refused = len(errors)
        return answer({"accepted": len(results) - refused, "refused": refused, "results": results})

    def _update(self, seen: SeenRequest, id_: UUID) -> httpx2.Response:
        content_type = seen.headers.get("content-type", "")
        if content_type not in (MERGE_PATCH, JSON):
            raise Refusal(415, "unsupported_media_type", f"Content-Type must be {MERGE_PATCH} or {JSON}.")
        refuse_over(MAX_RECORD_BYTES + SERVER_FIELDS_BYTES, seen.body)
        return stored_answer(self._store.update(id_, seen.body, seen.headers.get("if-match")))

    def _list(self, seen: SeenRequest) -> httpx2.Response:
        filters, rest = parameters(seen, "cursor", "limit")
        limit = number_of("limit", rest.get("limit"), _LIST_LIMIT, _LIST_LIMIT_MAX)
        after = position_of(rest.get("cursor"))
        found = list(matching(self._store.newest_first(), self._query(filters)))
        if after is not None:
            found = [stored for stored in found if stored.position < after]
        page, has_more = found[:limit], len(found) > limit
        cursor = cursor_of(page[-1]) if has_more else None
        paging = {"next_cursor": cursor, "has_more": has_more, "tiers": ["hot"], "complete": True}
        return answer(f'{{"data":[{",".join(stored.json() for stored in page)}],{json.dumps(paging)[1:]}')

    def _stats(self, seen: SeenRequest) -> httpx2.Response:
        filters, rest = parameters(seen, "credit", "bucket")
        credit_rule, bucket = choice_of("credit", rest, RULES) or "checks", choice_of("bucket", rest, ("day", "week"))
        found = list(matching(self._store.in_order(), self._query(filters)))
        facets, late = [stored.facets for stored in found], [stored.counted_outcomes() for stored in found]
        as_of = self._clock().astimezone(UTC).isoformat().replace("+00:00", "Z")
        bounds = {name: self._bound(filters.get(of)) for name, of in (("from", "since"), ("to", "until"))}
        return answer(
            stats_of(facets, credit_rule, bucket, late)
            | {"window": {**bounds, "tiers": ["hot"], "as_of": as_of, "complete": True, "computed_from": "records"}}
        )

    def _readiness(self, seen: SeenRequest) -> httpx2.Response:
        filters, rest = parameters(seen, "max_runs")
        max_runs = number_of("max_runs", rest.get("max_runs"), _READINESS_RUNS, _READINESS_RUNS_MAX)
        found, measures = list(matching(self._store.newest_first(), self._query(filters))), Measures()
        phase_count, size = 0, 0
        for stored in found[: min(max_runs, _READINESS_RUNS)]:
            if phase_count >= _READINESS_PHASES or size >= _READINESS_BYTES:
                break
            phases = [phase.phase for phase in stored.facets.phases]
            codes = [warning["code"] for warning in stored.warnings()]
            fields, facets = json.loads(stored.body), stored.facets
            measures.add(Run(fields, phases, facets.outcome, facets.cost_nano_usd, codes))
            phase_count, size = phase_count + len(phases), size + len(stored.body)
        made, is_complete = checks(measures, {}, len(found)), measures.runs == len(found)
        return answer(
            {
                "ready": all(check.passed for check in made),
                "checks": [check._asdict() for check in made],
                **measures.as_json(),
                "matching": len(found),
                "note": note(measures.runs, len(found)),
                "as_of": self._clock().astimezone(UTC).isoformat().replace("+00:00", "Z"),
                "complete": is_complete,
            }
        )

    def _export(self, seen: SeenRequest) -> httpx2.Response:
        filters, rest = parameters(seen, "after", "end")
        after, start = rest.get("after"), 0
        if after is not None:
            try:
                start = self._store.find(UUID(after)).seq
            except ValueError:
                message = "after must be the id of an exported record."
                raise Refusal(400, "invalid_cursor", message, param="after") from None
            except Refusal:
                message = f"Invalid cursor: there is no trajectory {after}."
                raise Refusal(404, "invalid_cursor", message, param="after") from None
        found = [stored for stored in matching(self._store.in_order(), self._query(filters)) if stored.seq > start]
        data = b"".join(f"{stored.json()}\n".encode() for stored in found)
        if rest.get("end") == "1":
            cursor = str(found[-1].id) if found else after
            end = {"count": len(found), "cursor": cursor, "sha256": hashlib.sha256(data).hexdigest()}
            data += json.dumps({"end": end}, separators=(",", ":")).encode() + b"\n"
        cut = self._cuts.popleft() if self._cuts else None
        return httpx2.Response(200, headers={"Content-Type": NDJSON}, stream=Stream(data, cut))

    def _delete_matching(self, seen: SeenRequest) -> httpx2.Response:
        filters, rest = parameters(seen, "dry_run", "token")
        if not filters:
            raise Refusal(403, "filter_required", "At least one filter is required.")
        if rest.get("dry_run") == "1":
            token = uuid4().hex
            self._tokens[token] = filters, self._store.now_us()
            return answer(
                {"count": sum(1 for _ in matching(self._store.in_order(), self._query(filters))), "token": token}
            )
        of_token, as_of_us = self._tokens.get(rest.get("token", ""), (None, 0))
        if of_token != filters:
            raise Refusal(
                409, "invalid_token", "Invalid token: it must come from a dry run with the same filters.", param="token"
            )
        found = [
            stored
            for stored in matching(self._store.in_order(), self._query(filters, as_of_us))
            if stored.revision <= as_of_us
        ]
        for stored in found:
            self._store.delete(stored.id)
        return answer({"deleted": len(found), "has_more": False, "removed": removed_counts(len(found))})

    def _bound(self, text: str | None) -> str | None:
        return None if text is None else rfc3339(time_us(text, self._store.now_us()))

    def _query(self, filters: dict[str, str], now_us: int | None = None) -> Callable[[Facets], bool]:
        try:
            return query_of(filters, self._store.now_us() if now_us is None else now_us)
        except ValueError as error:
            name, problem = error.args
            message = f"{name} {problem}"
            details = [{"path": name, "code": "invalid_parameter", "message": message}]
            raise Refusal(400, "invalid_parameter", message, param=name, details=details) from None


def refuse_over(limit: int, body: bytes) -> None:
    if len(body) > limit:
        raise Refusal(413, "body_too_large", f"The body must not exceed {limit} bytes.")


def _no_wait(seconds: float) -> None:
    """Do not wait."""


async def _no_async_wait(seconds: float) -> None:
    """Do not wait."""
