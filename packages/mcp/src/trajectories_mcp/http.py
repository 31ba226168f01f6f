"""Answers to single requests of streamable HTTP, for a site that serves the tools at its own
address.

Requests share no state, neither sessions nor keys, so any process can answer any request. Each
answer is one JSON body. Without streams, a request occupies a thread of the site only while the
call runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from trajectories_mcp.server import make_server
from trajectories_sdk import AsyncClient


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The store, key and limits for one request.

    The tools send their requests through ``store`` to ``base_url``, with the caller's own
    ``api_key``. ``hosts`` and ``origins`` are the accepted values of the headers Host and Origin,
    against DNS rebinding. Other values get 421 and 403. Clients other than browsers send no Origin.
    """

    base_url: str
    api_key: str = field(repr=False)
    store: httpx2.AsyncBaseTransport = field(repr=False)
    hosts: Sequence[str]
    origins: Sequence[str]
    max_body_bytes: int

    def __post_init__(self) -> None:
        if not self.api_key:
            # Without a key the SDK would use the one in the environment of the process.
            raise ValueError("api_key must not be empty: give the API key of the caller")


async def answer(request: httpx2.Request, context: RequestContext) -> httpx2.Response:
    """Return the answer to ``request``, completely read.

    Failed calls are not retried: a retry would block a thread of the site. The agent gets the error
    and the next step.
    """
    async with AsyncClient(context.base_url, context.api_key, max_retries=0, transport=context.store) as client:
        manager = StreamableHTTPSessionManager(
            make_server(client),
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(
                allowed_hosts=list(context.hosts), allowed_origins=list(context.origins)
            ),
            max_request_body_size=context.max_body_bytes,
        )
        async with manager.run():
            response = await httpx2.ASGITransport(manager.asgi_app).handle_async_request(request)
            await response.aread()
            return response
