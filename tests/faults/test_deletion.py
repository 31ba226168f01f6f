"""Deletion during outages, and late copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest

from tests.examples import REFERENCE
from tests.faults.cluster import Cluster
from tests.faults.load import NDJSON, PATH, Load, canonical
from tests.processes import wait_until

pytestmark = pytest.mark.faults

Judge = Callable[..., None]
EACH = 40


@pytest.mark.smoke
def test_deleted_records_do_not_come_back(cluster: Cluster, judge: Judge) -> None:
    deleted: set[str] = set()

    def fault(cluster: Cluster, load: Load) -> str:
        bodies = [orjson.dumps(REFERENCE | {"id": str(uuid4())}) for _ in range(4 * EACH)]
        post(cluster, "a1", bodies)
        wait_until(lambda: archived(cluster, bodies), 60, "they are archived")
        ids = [orjson.loads(body)["id"] for body in bodies]
        deleted.update(ids[: 3 * EACH])
        client = cluster.webs["a1"].http
        cluster.stop_postgres()
        answers = Counter(client.delete(f"{PATH}/{id_}").status_code for id_ in ids[:EACH])
        cluster.start_postgres()
        cluster.site.redis.stop()
        answers += Counter(client.delete(f"{PATH}/{id_}").status_code for id_ in ids[EACH : 2 * EACH])
        cluster.site.redis.start()
        assert answers == {503: 2 * EACH}, answers
        for id_ in sorted(deleted):
            wait_until(partial(is_deleted, client, id_), 60, "it is deleted")
        late = [post(cluster, name, bodies[: 3 * EACH]) for name in ("a1", "b1")]
        assert set(late[0]) == {409}
        cluster.ledger.acknowledge([canonical(body) for body in bodies[3 * EACH :]])
        load.more(300)
        wait_until(lambda: not came_back(cluster, deleted), 60, "the late copies are gone")
        return (
            f"{answers[503]} answers 503 while the archive, then Redis was away, {len(deleted)} deleted; "
            f"{late[0][409] + late[1][409]} late copies refused, {late[1].total() - late[1][409]} taken and dropped, 0 came back"
        )

    judge(
        "deletion, parts away, late copies",
        cluster,
        fault,
        observed="a2",
        may_go=lambda record: record["id"] in deleted,
    )


def is_deleted(client: httpx2.Client, id_: str) -> bool:
    return client.delete(f"{PATH}/{id_}").is_success


def post(cluster: Cluster, name: str, bodies: Sequence[bytes]) -> Counter[int]:
    """Statuses of the lines."""
    answer = cluster.webs[name].http.post(PATH, content=b"\n".join(bodies), headers={"Content-Type": NDJSON})
    assert answer.is_success, answer.text
    return Counter(result["status"] for result in answer.json()["results"])


def archived(cluster: Cluster, bodies: Sequence[bytes]) -> bool:
    ids = "', '".join(orjson.loads(body)["id"] for body in bodies)
    return bool(
        cluster.value(f"SELECT count(*) FROM trajectories_trajectory WHERE trajectory_id IN ('{ids}')") == len(bodies)
    )


def came_back(cluster: Cluster, deleted: set[str]) -> set[Any]:
    """Return the deleted ids that a process lists or a tier holds."""
    listed = {
        record["id"]
        for web in cluster.webs.values()
        for record in web.http.get(PATH, params={"limit": 1000}).json()["data"]
    }
    stored = {str(id_) for (id_,) in cluster.query("SELECT trajectory_id FROM trajectories_trajectory")}
    return (listed | stored | {str(id_) for id_ in cluster.in_redis()}) & deleted
