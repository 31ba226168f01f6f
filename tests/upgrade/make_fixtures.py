"""``uv run python -m tests.upgrade.make_fixtures``: has an earlier revision at work, and keeps its
files as fixtures.

To be run by hand, after ``earlier.REVISION`` was changed.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from tests.examples import CAMEL, REFERENCE
from tests.processes import Site, Web, wait_until
from tests.upgrade.earlier import check_out
from tests.upgrade.fixture import DATABASE, OUTBOX, Expected, pack

PATH = "/v1/agent/trajectories"
_REFUSE = (
    "CREATE TRIGGER refusal BEFORE INSERT ON trajectories_trajectory "
    "WHEN NEW.project = 'odd' BEGIN SELECT RAISE(ABORT, 'refused'); END"
)


def run(**fields: Any) -> dict[str, Any]:
    """A canonical body with an id."""
    return REFERENCE | {"id": str(uuid4())} | fields


def post(web: Web, body: dict[str, Any], status: int) -> dict[str, Any]:
    answer = web.http.post(PATH, json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def post_lines(web: Web, bodies: list[dict[str, Any]]) -> None:
    data = b"\n".join(map(orjson.dumps, bodies))
    answer = web.http.post(PATH, content=data, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["accepted"] == len(bodies), answer.text


def get(web: Web, address: str, **parameters: str) -> str:
    answer = web.http.get(f"{PATH}{address}", params=parameters)
    assert answer.is_success, answer.text
    return str(answer.text)


def count(path: Path, sql: str) -> int:
    with closing(sqlite3.connect(path, timeout=20)) as db:
        return int(db.execute(sql).fetchone()[0])


def waiting(site: Site) -> int:
    return count(site.data_dir / OUTBOX, "SELECT count(*) FROM rows WHERE state = 'waiting'")


def archive_runs(site: Site, web: Web) -> list[dict[str, Any]]:
    """Runs of every kind, in the archive; the canonical ones."""
    runs = [run(request_summary=f"run {number}") for number in range(6)]
    for body in runs[:3]:
        post(web, body, 201)
    post(web, CAMEL, 201)
    post_lines(web, runs[3:])
    post(web, runs[0], 200)
    post(web, runs[1] | {"build_passed": False, "total_cost_usd": 0.25}, 200)
    wait_until(lambda: not waiting(site), what="everything is archived")
    return runs


@contextmanager
def refusing(site: Site) -> Iterator[None]:
    """Make the archive refuse the project "odd", behind all validation."""
    with closing(sqlite3.connect(site.data_dir / DATABASE, timeout=20)) as db:
        db.execute(_REFUSE)
        yield
        db.execute("DROP TRIGGER refusal")


def quarantine_run(site: Site, web: Web) -> str:
    with refusing(site):
        odd = post(web, run(project="odd"), 201)["id"]
        wait_until(lambda: not waiting(site), what="it is refused")
    assert count(site.data_dir / DATABASE, "SELECT count(*) FROM trajectories_quarantined") == 1
    return str(odd)


def leave_waiting(web: Web, archived: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that wait, since no worker runs: new runs, of which the first has two, a repeat, and a
    revision of the last."""
    new = [run(request_summary=f"waiting {number}") for number in range(4)]
    post(web, new[0], 201)
    post(web, new[0] | {"tests_passed": False}, 200)
    post_lines(web, new[1:])
    post(web, archived[2], 200)
    post(web, archived[-1] | {"review_findings": 7}, 200)
    return new


def work(site: Site, checkout: Path) -> Expected:
    """Everything that the earlier code does to these files."""
    web, worker = site.web(checkout=checkout), site.worker(checkout=checkout)
    archived = archive_runs(site, web)
    quarantined = quarantine_run(site, web)
    exported = get(web, "/export", end="1")
    worker.stop()
    new = leave_waiting(web, archived)
    listed, first_two = get(web, ""), orjson.loads(get(web, "", limit="2"))
    web.stop()
    return Expected(
        tenant=site.tenant,
        api_key=site.api_key,
        listed=listed,
        cursor=first_two["next_cursor"],
        exported=exported,
        acknowledged=count(site.data_dir / OUTBOX, "SELECT max(n) FROM rows"),
        waiting_rows=waiting(site),
        new=[body["id"] for body in new],
        revised=archived[-1]["id"],
        replaced_while_waiting=new[0]["id"],
        quarantined=quarantined,
    )


def close_log(path: Path) -> None:
    """Write the log into the database file, so that the file is complete."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    left = [other.name for other in path.parent.glob(f"{path.name}-*")]
    assert not left, f"somebody has {path.name} open: {left}"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        checkout = check_out(directory / "earlier")
        site = Site.make(directory / "site", {}, checkout=checkout)
        try:
            expected = work(site, checkout)
        finally:
            site.close()
        for file in (DATABASE, OUTBOX):
            close_log(site.data_dir / file)
        pack(site.data_dir, expected)


if __name__ == "__main__":
    main()
