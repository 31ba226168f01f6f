"""``trajectories-mcp``: the tools over standard input and output."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import anyio
from mcp.server.stdio import stdio_server

from trajectories_mcp import __version__
from trajectories_mcp.server import make_server
from trajectories_sdk import AsyncClient

TIMEOUT_S = 15.0
"""Limit of each wait. The agent is blocked meanwhile."""


def main() -> int:
    """Serve until standard input ends.

    Returns:
        The exit code: 0 at the end of the input, 2 for an invalid configuration.
    """
    parser = argparse.ArgumentParser(
        prog="trajectories-mcp",
        description="MCP tools of the trajectory store, over standard input and output.",
        epilog="TRAJSTORE_BASE_URL is the address of the store (default: http://127.0.0.1:8000), TRAJSTORE_API_KEY its API key.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.parse_args()
    # Standard output belongs to the protocol.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        # As arguments, invalid values are errors: a command may refuse to start, where a library must not.
        address, key = (os.environ.get(name, "").strip() for name in ("TRAJSTORE_BASE_URL", "TRAJSTORE_API_KEY"))
        # No retries: the agent gets the error at once, with the next step.
        client = AsyncClient(address or None, key or None, timeout_s=TIMEOUT_S, max_retries=0)
    except ValueError as error:
        print(f"trajectories-mcp: {error}", file=sys.stderr)
        return 2
    anyio.run(_serve, client)
    return 0


async def _serve(client: AsyncClient) -> None:
    async with client, stdio_server() as (incoming, outgoing):
        server = make_server(client)
        await server.run(incoming, outgoing, server.create_initialization_options())
