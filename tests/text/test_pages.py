"""Pages that work with runs show texts of clients, and of their own addresses, as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils.http import urlencode

from tests.admin.rows import address, archived, page, quarantined, record
from tests.examples import body, phase
from tests.learning.runs import attempts
from tests.text.injections import HARMLESS, INJECTIONS
from tests.text.markup import Elements, Markup
from trajectories.domain.outcomes import phase_group
from trajectories.domain.text import visible
from trajectories.models import Tenant, Trajectory
from trajectories.storage.archive_writes import mirror
from trajectories.storage.store import get_store

pytestmark = [pytest.mark.abuse, pytest.mark.django_db, pytest.mark.usefixtures("redis_tier")]

TEXTS = {**INJECTIONS, "long": "W" * 500}
OWN_WORDS = ("export refused", "export runs")
FILTERED = ("project", "source", "policy", "phase", "model", "tag")


def alerting(text: str) -> None:
    """Archive runs whose model, phase and type are the subject of an alert."""
    made = [attempts((text if at else "other", "success", 0.1)) | {"request_type": text} for at in range(30)]
    for run in made:
        run["phases"][0]["phase_name"] = text
    mirror([record(run) for run in made])


def pages(client: Client, text: str) -> dict[str, str]:
    """Every page of work, with ``text`` in what it shows of runs, of forms and of files."""
    alerting(text)
    run = archived(body(request_summary=text, project=text, policy=text, phases=[phase(phase_name=text, error=text)]))
    quarantined({"request_summary": text, "phases": []}, error=text)
    given = dict.fromkeys(FILTERED, text)

    def act(action: str, **more: str) -> str:
        data = {"action": action, "_selected_action": [str(run.pk)], "index": "0"} | more
        return str(client.post(address("trajectory"), data).content.decode())

    def posted(name: str, data: dict[str, Any]) -> str:
        return str(client.post(address("tenant", f"alice/{name}/"), data).content.decode())

    lines = [b"x %b }" % " ".join(text.split()).encode(), orjson.dumps({text: text}), orjson.dumps(body(id=text))]
    policy = {
        "otherwise": text,
        "feature": "phase",
        "value": text,
        "use": text,
        "phase": phase_group(text),
        "tenant": "alice",
    }
    return {
        "evaluate": page(client, f"{address('trajectory', 'evaluate/')}?{urlencode(policy)}"),
        "evaluate filters": page(client, f"{address('trajectory', 'evaluate/')}?{urlencode(given | policy)}"),
        "unknown feature": page(
            client, f"{address('trajectory', 'evaluate/')}?{urlencode(policy | {'feature': text})}"
        ),
        "no tenant": page(client, f"{address('trajectory', 'evaluate/')}?{urlencode({'tenant': text})}"),
        "overview": page(client, address("trajectory", "overview/")),
        "compare runs": page(client, f"{address('trajectory', 'compare/runs/')}?run={run.pk}&run={run.pk - 1}"),
        "export": page(client, f"{address('tenant', 'alice/export/')}?{urlencode(given)}"),
        "export refused": posted("export", given | {"format": text, "split": text, "min_cost_usd": text}),
        "readiness": page(client, f"{address('tenant', 'alice/readiness/')}?{urlencode(given)}"),
        "delete filters": posted("delete-runs", given),
        "import": posted("import", {"file": SimpleUploadedFile("runs.jsonl", b"\n".join(lines))}),
        "import of a name": posted("import", {"file": SimpleUploadedFile(f"{text[:40]}.gz", b"x")}),
        "delete preview": act("delete_runs"),
        "export runs": act("export_runs", format=text, file=text),
        "health": page(client, address("tenant", "health/")),
    }


@pytest.fixture(scope="module")
def harmless() -> dict[str, Elements]:
    """Elements of each page with harmless text; the first test adds them."""
    return {}


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_of_work_has_the_same_markup_whatever_the_text(
    name: str, admin_client: Client, harmless: dict[str, Elements], record_property: Callable[[str, Any], None]
) -> None:
    if not harmless:
        harmless |= {at: Markup(shown).elements for at, shown in pages(admin_client, HARMLESS).items()}
        Trajectory.objects.all().delete()
        Tenant.objects.all().delete()
        get_store().hot_cache.clear()
    for at, shown in pages(admin_client, TEXTS[name]).items():
        markup = Markup(shown)
        assert markup.elements == harmless[at], at
        assert not [given for given in markup.addresses if given and given[0] not in "/?.#"], at
        # Django's errors of a field repeat what the person has sent.
        assert at in OWN_WORDS or visible(markup.text) == markup.text.replace("\r", ""), at
    record_property("text", ("pages", name))
