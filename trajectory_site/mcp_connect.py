"""``/v1/mcp/connect``: the MCP tools over streamable HTTP, inside the web process.

A tool calls the REST API with the caller's key, so all limits of the API apply. It does not use a
network connection: each call would wait for another thread of this process, and once all threads
serve MCP calls, none is left to answer. The tool's request runs in the thread that received the
call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import setting_changed
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from trajectories.api import request_ids
from trajectories.api.authentication import authenticate
from trajectories.api.exception_handler import error_response
from trajectories.api.parsers import read_body
from trajectories.conf import read_settings
from trajectories.domain.json_values import expect_few_values
from trajectories.exceptions import AuthenticationFailure, MethodNotAllowed
from trajectories_mcp.error_hints import next_step
from trajectories_sdk.errors import status_error
from trajectory_site.api_requests import ApiMiddleware

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_ENVELOPE = 64 * 1024
"""Bytes around a record in a call."""
_ENVELOPE_VALUES = 1_000
_REFUSED = -32000
"""JSON-RPC code for a server error; ``data`` holds the API's error."""
# Headers of the connection, and headers that only this view may see.
_KEPT_BACK = frozenset({"authorization", "cookie", "connection", "content-length", "transfer-encoding", "expect"})


@csrf_exempt  # no cookie is read
@transaction.non_atomic_requests
def connect(request: HttpRequest) -> HttpResponse:
    """Answer one message of the protocol.

    A GET, which would open a stream, is a 405, as the protocol requires.
    """
    token = request_ids.current.set(request_ids.request_id(request))
    try:
        return _answered(request)
    except Exception as error:
        return _refused(error, request)
    finally:
        request_ids.current.reset(token)


def _answered(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        raise MethodNotAllowed("Only POST is for this address; there are no streams and no sessions.")
    caller = authenticate(request)
    body = read_body(request, read_settings().max_record_bytes + _ENVELOPE, caller)
    # Before the library parses it, several times.
    expect_few_values(body, name="message", around=_ENVELOPE_VALUES)
    answer = async_to_sync(_answer)(request, body)
    media_type = answer.headers.get("Content-Type", "text/plain")
    response = HttpResponse(answer.content, status=answer.status_code, content_type=media_type)
    response["X-Content-Type-Options"] = "nosniff"
    response[request_ids.HEADER] = request_ids.request_id(request)
    return response


async def _answer(request: HttpRequest, body: bytes) -> httpx2.Response:
    # Imported at the first call: a process without MCP clients saves a second and 60 MB.
    from trajectories_mcp.http import RequestContext, answer

    origin = f"{request.scheme}://{request.get_host()}"
    asked = RequestContext(
        base_url=origin,
        api_key=_key(request),
        store=_InProcess(request),
        # get_host() checks it against ALLOWED_HOSTS.
        hosts=[request.get_host()],
        origins=[origin, *settings.CORS_ALLOWED_ORIGINS],
        max_body_bytes=len(body) + 1,  # read_body() has already limited it
    )
    headers = [
        (name.encode("ascii"), text.encode("latin-1"))
        for name, text in request.headers.items()
        if name.lower() not in _KEPT_BACK
    ]
    message = httpx2.Request("POST", request.build_absolute_uri(), headers=headers, content=body)
    return await answer(message, asked)


class _InProcess(httpx2.AsyncBaseTransport):
    """Pass requests to this site's application, as if the client of the outer request sent them.

    They run in the thread of the outer request (``thread_sensitive``), which waits for the tool and
    has the database connection.
    """

    def __init__(self, around: HttpRequest) -> None:
        meta: Mapping[str, Any] = around.META
        self._wsgi = httpx2.WSGITransport(
            _application(),
            script_name=str(meta.get("SCRIPT_NAME", "")),
            remote_addr=str(meta.get("REMOTE_ADDR", "")),
        )
        # Both requests share one id in the log. Bad keys count for the client's address.
        self._headers = {request_ids.HEADER: request_ids.request_id(around)}
        if "HTTP_X_FORWARDED_FOR" in meta:
            self._headers["X-Forwarded-For"] = str(meta["HTTP_X_FORWARDED_FOR"])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        request.headers.update(self._headers)
        return await sync_to_async(self._carried_out, thread_sensitive=True)(request)

    def _carried_out(self, request: httpx2.Request) -> httpx2.Response:
        with closing(self._wsgi.handle_request(request)) as response:
            return httpx2.Response(response.status_code, headers=response.headers, content=response.read())


class _Application(ApiMiddleware):
    """Django's request handler as a WSGI application, without the signals of a request.

    ``request_started`` and ``request_finished`` would close database connections in the middle of
    the outer request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        response = self.get_response(WSGIRequest(environ))
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        return [b"".join(response)]


@cache  # one per process, because it builds the middleware; keeps no request state
def _application() -> _Application:
    return _Application()


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("API_MIDDLEWARE", "ROOT_URLCONF"):
        _application.cache_clear()


setting_changed.connect(_forget)


def _key(request: HttpRequest) -> str:
    key = request.headers.get("Authorization", "").partition(" ")[2].strip()
    if not (key.isascii() and key.isprintable() and key):  # a caller authenticated without a key
        raise AuthenticationFailure("Send your API key as 'Authorization: Bearer KEY'.", code="missing_api_key")
    return key


def _refused(error: Exception, request: HttpRequest) -> HttpResponse:
    """Return the API's response to ``error`` as a JSON-RPC error, which MCP clients display."""
    response = error_response(error, request)
    told = orjson.loads(response.content)["error"]
    wait_s = float(response.get("Retry-After", "0")) or None
    advice = next_step(status_error(response.status_code, response.content, retry_after_s=wait_s))
    failure = {"code": _REFUSED, "message": f"{told['message']} {advice}", "data": told}
    response.content = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": failure})
    if response.status_code == MethodNotAllowed.status:
        response["Allow"] = "POST"
    return response
