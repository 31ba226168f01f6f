"""A Celery application whose task records in the background: ``celery --app
tests.sdk.background.celery_app worker``."""

from __future__ import annotations

import os

from celery import Celery

from tests.sdk.background.pipeline import patient_client
from trajectories_sdk import Client

app = Celery("tests.sdk.background", broker=os.environ.get("SDK_BROKER_URL"), set_as_current=False)
app.conf.broker_connection_retry_on_startup = True
_clients: list[Client] = []


@app.task(name="tests.sdk.background.run")
def run(project: str) -> None:
    """As an application does: one client for the process, made by whoever is first."""
    if not _clients:
        _clients.append(patient_client())
    with _clients[0].trajectories.run("Add auth", project=project) as recorder, recorder.phase("spec"):
        pass
