"""For the tests of those who use this SDK: a server in memory.

with InMemoryServer() as server:
    client = server.client()
    ...
    assert server.records[0].request_summary == "Add auth"
"""

from trajectory_sdk.testing.server import API_KEY, BASE_URL, InMemoryServer, SeenRequest

__all__ = ["API_KEY", "BASE_URL", "InMemoryServer", "SeenRequest"]
