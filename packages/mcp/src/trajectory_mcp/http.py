"""One request of streamable HTTP, answered: for a site that offers the tools at an address of its own.

Nothing is kept from one request to the next, no session and no key, so any process can answer any request. The answer is
one JSON body; there are no streams, and so nothing holds a thread of the site's for longer than a call takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from trajectory_mcp.server import make_server
from trajectory_sdk import AsyncClient


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a request has come in, and whom its tools ask.

    ``store`` carries the requests of the tools to the store at ``base_url``, with ``api_key``, the caller's own. ``hosts`` and
    ``origins`` are what the headers Host and Origin may say (DNS rebinding): others are answered 421 and 403; a client that is no
    browser sends no Origin.
    """

    base_url: str
    api_key: str = field(repr=False)
    store: httpx2.AsyncBaseTransport = field(repr=False)
    hosts: Sequence[str]
    origins: Sequence[str]
    max_body_bytes: int

    def __post_init__(self) -> None:
        if not self.api_key:
            # The SDK would take the one of the process's environment.
            raise ValueError("a request without a key has no tools")


async def answer(request: httpx2.Request, asked: Asked) -> httpx2.Response:
    """The answer to ``request``, read whole.

    A call that fails is not tried again: a thread of the site's would wait meanwhile, and the agent is told what to try.
    """
    async with AsyncClient(asked.base_url, asked.api_key, max_retries=0, transport=asked.store) as client:
        manager = StreamableHTTPSessionManager(
            make_server(client),
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(
                allowed_hosts=list(asked.hosts), allowed_origins=list(asked.origins)
            ),
            max_request_body_size=asked.max_body_bytes,
        )
        async with manager.run():
            response = await httpx2.ASGITransport(manager.asgi_app).handle_async_request(request)
            await response.aread()
            return response
