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
class Site:
    """Where a request has come in, and whom its tools ask.

    ``store`` carries the requests of the tools to the store at ``base_url``. ``hosts`` and ``origins`` are what the headers Host
    and Origin may say (DNS rebinding): others are answered 421 and 403; a client that is no browser sends no Origin.
    """

    base_url: str
    store: httpx2.AsyncBaseTransport = field(repr=False)
    hosts: Sequence[str]
    origins: Sequence[str]
    max_body_bytes: int


async def answer(request: httpx2.Request, site: Site, api_key: str) -> httpx2.Response:
    """The answer to ``request``, read whole, from tools that ask with ``api_key``.

    A call that fails is not tried again: a thread of the site's would wait meanwhile, and the agent is told what to try.

    Args:
        api_key: the caller's own. Never empty: then it would be the one of the process's environment.

    Raises:
        ValueError: the key is none.
    """
    if not api_key:
        raise ValueError("a request without a key has no tools")
    async with AsyncClient(site.base_url, api_key, max_retries=0, transport=site.store) as client:
        manager = StreamableHTTPSessionManager(
            make_server(client),
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(
                allowed_hosts=list(site.hosts), allowed_origins=list(site.origins)
            ),
            max_request_body_size=site.max_body_bytes,
        )
        async with manager.run():
            response = await httpx2.ASGITransport(manager.asgi_app).handle_async_request(request)  # type: ignore[arg-type]
            await response.aread()
            return response
