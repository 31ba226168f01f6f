"""A store in processes of its own, for the SDKs to speak to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import Site, Web
from tests.sdk.scenario import Access

_KEYS_AT_ONCE = 20


@dataclass(frozen=True)
class ServedStore:
    """A site with a web server and a worker that run."""

    site: Site
    web: Web
    shared: Path
    _keys: dict[str, list[str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.web.url

    def access(self) -> Access:
        """For a way to the store, with a tenant of its own."""
        return Access(self.url, self.key(), self.shared)

    def key(self, *, scopes: str = "record,read,export") -> str:
        """An API key of a new tenant, which has no records."""
        ready = self._keys.setdefault(scopes, [])
        if not ready:
            ready += self.site.manage(
                "shell", "--no-imports", "-c", _ISSUE.format(scopes=scopes, count=_KEYS_AT_ONCE)
            ).split()
        return ready.pop()


# Many with one start of Django, which takes longer than all of them.
_ISSUE = """
from uuid import uuid4
from trajectories.models import ApiKey, Tenant
for _ in range({count}):
    tenant = Tenant.objects.create(slug=f"t{{uuid4().hex}}")
    print(ApiKey.objects.issue(tenant=tenant, name="of a test", scopes="{scopes}".split(","))[1])
"""
