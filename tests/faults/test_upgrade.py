"""A rolling upgrade: code of an earlier revision and of this one run together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.examples import REFERENCE
from tests.faults.cluster import Cluster
from tests.faults.load import PATH, Load, canonical
from tests.processes import Process, wait_until
from tests.upgrade.earlier import check_out

pytestmark = pytest.mark.faults

Judge = Callable[..., None]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return check_out(tmp_path / "earlier")


@pytest.mark.smoke
def test_a_rolling_upgrade(earlier: Path, make_cluster: Callable[..., Cluster], judge: Judge) -> None:
    """Tables, then workers, then web processes one by one: the order that docs/reliability.md asks
    for.

    Old and new web processes share an outbox file meanwhile. The new worker does not take what old
    relays send, so those rows wait.
    """
    # The default: new relays look again at what earlier ones have confirmed.
    keep = {"TRAJECTORIES_OUTBOX_KEEP_CONFIRMED_S": "600"}
    cluster = make_cluster(checkout=earlier, **keep).start(worker=False, checkout=earlier)
    old_worker = cluster.start_worker(checkout=earlier)
    share = [0.0]

    def odd(chance: Any) -> dict[str, Any]:
        return {"project": "odd"} if chance.random() < share[-1] else {}

    def fault(cluster: Cluster, load: Load) -> str:
        told = [migrated(cluster), refused(cluster, share), renewed_worker(cluster, old_worker)]
        flying = [renew_web(cluster, "a1")]
        told += [shared_outbox(cluster, old="a2", new="a1")]
        load.more(100)
        flying += [renew_web(cluster, "b1")]
        load.more(100)
        flying += [renew_web(cluster, "a2")]
        load.more(100)
        load.begin_outcomes()  # as docs/outcomes.md asks for: when all processes have this release
        load.more(100)
        assert [miscounted(cluster, host) for host in "ab"] == [0, 0]
        said = cluster.site.manage("replay_quarantine").strip()
        assert said.endswith(" replayed, 0 still refused.")
        return "; ".join([*told, f"{min(flying)}+ rows under way; {said}"])

    # A refused record leaves the list: it is in quarantine.
    judge(
        "rolling upgrade",
        cluster,
        fault,
        observed="a1",
        extra=odd,
        may_go=lambda record: record.get("project") == "odd",
    )


def is_new(cluster: Cluster, name: str) -> bool:
    """Return whether this web process runs the present code; the earlier one lacks this address."""
    return cluster.webs[name].http.get("/health/live").status_code == 200


def renew_web(cluster: Cluster, name: str) -> int:
    """Rows that were under way as it was stopped."""
    assert not is_new(cluster, name)
    waiting = wait_until(cluster.waiting, what="rows are under way")
    cluster.webs[name].stop()
    cluster.start_web(name)
    assert is_new(cluster, name)
    return waiting


def shared_outbox(cluster: Cluster, *, old: str, new: str) -> str:
    """Check that a record accepted by one process is shown by the other at once."""
    assert (is_new(cluster, old), is_new(cluster, new)) == (False, True)
    for writer, reader in ((old, new), (new, old)):
        body = orjson.dumps(REFERENCE | {"id": str(uuid4())})
        answer = cluster.webs[writer].http.post(PATH, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 201, answer.text
        cluster.ledger.acknowledge([canonical(body)])
        read = cluster.webs[reader].http.get(f"{PATH}/{answer.json()['id']}")
        assert _stored(read.content) == _stored(answer.content)
    return f"new {new} and old {old} on one outbox"


def _stored(answer: bytes) -> dict[str, Any]:
    """Return a record without the values that only the present code adds to answers."""
    return {name: value for name, value in orjson.loads(answer).items() if name not in ("derived", "warnings")}


def miscounted(cluster: Cluster, host: str) -> int:
    """Rows that the counters of an outbox lack: the relay before counted nothing itself."""
    numbers = "SELECT sum(value) FROM numbers WHERE name IN ('confirmed', 'quarantined')"
    waiting = "SELECT count(*) FROM rows WHERE state = 'waiting'"
    return cluster.in_outbox(host, f"SELECT seq - ({numbers}) - ({waiting}) FROM sqlite_sequence WHERE name = 'rows'")


def migrated(cluster: Cluster) -> str:
    def applied() -> set[str]:
        return {name for (name,) in cluster.query("SELECT name FROM django_migrations WHERE app = 'trajectories'")}

    before, acknowledged = applied(), cluster.ledger.acknowledged
    cluster.site.manage("migrate", "--no-input")
    meanwhile = cluster.ledger.acknowledged - acknowledged
    assert meanwhile
    names = applied() - before
    assert names
    return f"{', '.join(sorted(names))} applied while {meanwhile} were acknowledged"


def refused(cluster: Cluster, share: list[float]) -> str:
    """The earlier worker writes into the tables of the present code, the quarantine among them."""
    count = "SELECT count(*) FROM trajectories_quarantined WHERE attempts = 1"
    table = "ALTER TABLE trajectories_trajectory"
    cluster.execute(f"{table} ADD CONSTRAINT refusal CHECK (project <> 'odd')")
    share.append(0.1)
    wait_until(lambda: cluster.value(count) >= 5, 60, "the old worker puts records into quarantine")
    share.append(0.0)
    cluster.execute(f"{table} DROP CONSTRAINT refusal")
    return "old worker quarantined into the new table"


def renewed_worker(cluster: Cluster, old: Process) -> str:
    """Replace the old worker; what old relays send waits in the outboxes until they are replaced."""
    old.stop()
    cluster.start_worker()
    cluster.site.manage("fill_credit")
    wait_until(lambda: cluster.waiting() >= 100, 60, "rows of the old relays wait")
    return "100+ rows waited for a new relay"
