"""An in-memory server for the tests of SDK users.

with InMemoryServer() as server:
    client = server.client()
    ...
    assert server.records[0].request_summary == "Add auth"
"""

from trajectories_sdk.testing.messages import SeenRequest
from trajectories_sdk.testing.server import API_KEY, BASE_URL, InMemoryServer

__all__ = ["API_KEY", "BASE_URL", "InMemoryServer", "SeenRequest"]
