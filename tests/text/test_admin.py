"""The admin shows texts of clients as text and never as markup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.db.models import Model
from django.test import Client

from tests import baker_recipes
from tests.admin.rows import address, archived, page, page_of, quarantined
from tests.text.injections import HARMLESS, INJECTIONS, MODELS, filled
from tests.text.markup import Elements, Markup
from trajectories.domain import dialects, schema
from trajectories.domain.text import visible
from trajectories.models import ApiKey, Phase, Quarantined, Tenant, Trajectory
from trajectories.workspace import Annotation, SavedView

pytestmark = [pytest.mark.abuse, pytest.mark.django_db]


def rows(dialect: str, text: str) -> dict[str, Model]:
    """A row of every model, with ``text`` in all that a client or a member of the staff can choose."""
    body = orjson.loads(schema.canonical(dialects.read(orjson.dumps(filled(dialect, text)))))
    trajectory = archived({key: value for key, value in body.items() if key != "id"})
    Tenant.objects.filter(pk="alice").update(name=text[:200])
    key = baker_recipes.api_key.make(tenant=trajectory.tenant, name=text[:200])
    Annotation.objects.create(
        tenant=trajectory.tenant, trajectory_id=trajectory.trajectory_id, note=text, tag=text[:64], author=text[:200]
    )
    view = SavedView.objects.create(name=text[:100], note=text[:500], owner=text[:200], is_shared=True)
    return {
        "savedview": view,
        "tenant": trajectory.tenant,
        "apikey": key,
        "trajectory": trajectory,
        "phase": Phase.objects.filter(trajectory=trajectory).order_by("place")[0],
        "quarantined": quarantined({"request_summary": text, "phases": []}, error=text),
    }


def pages(client: Client, made: dict[str, Model]) -> dict[str, str]:
    """Every page of the rows: list, detail and history."""
    found = {f"{model} list": page(client, address(model)) for model in made}
    for action in ("change", "history"):
        found |= {f"{model} {action}": page(client, page_of(row, action)) for model, row in made.items()}
    for view in ("shape", "transcript"):
        found[f"trajectory {view}"] = page(client, f"{page_of(made['trajectory'])}?view={view}")
    return found


@pytest.fixture(scope="module")
def harmless() -> dict[str, dict[str, Elements]]:
    """Elements of each page with harmless text, by dialect. The first test of a dialect adds them."""
    return {}


def forget() -> None:
    for model in (Quarantined, Trajectory, ApiKey, Tenant, SavedView):
        model._default_manager.all().delete()


@pytest.mark.parametrize("dialect", MODELS)
@pytest.mark.parametrize("name", INJECTIONS)
def test_a_page_has_the_same_markup_for_any_text(
    name: str,
    dialect: str,
    admin_client: Client,
    harmless: dict[str, dict[str, Elements]],
    record_property: Callable[[str, Any], None],
) -> None:
    text = INJECTIONS[name]
    if dialect not in harmless:
        shown_harmless = pages(admin_client, rows(dialect, HARMLESS))
        harmless[dialect] = {at: Markup(shown).elements for at, shown in shown_harmless.items()}
        forget()
    made = rows(dialect, text)
    for at, shown in pages(admin_client, made).items():
        markup = Markup(shown)
        assert markup.elements == harmless[dialect][at], at
        assert not [given for given in markup.addresses if given and given[0] not in "/?.#"], at
    record_property("text", ("admin", name))


@pytest.mark.parametrize("name", [name for name, text in INJECTIONS.items() if visible(text) != text])
def test_hidden_and_bidi_characters_are_made_visible_and_stored_unchanged(name: str, admin_client: Client) -> None:
    text = INJECTIONS[name]
    made = rows("canonical", text)
    shown = pages(admin_client, made)
    for at, one in shown.items():
        # The form shows a name of the staff unescaped, or saving it would change the name.
        if at not in ("tenant change", "apikey change", "savedview change"):
            assert visible(one) == one.replace("\r", ""), at
    mark = visible(text).split("\n")[0]
    for at in (
        "trajectory list",
        "trajectory change",
        "trajectory transcript",
        "phase list",
        "phase change",
        "quarantined list",
        "quarantined change",
    ):
        assert mark in Markup(shown[at]).text, at
    assert mark in Markup(shown["tenant list"]).text
    stored = Trajectory.objects.get()
    assert orjson.loads(stored.body)["request_summary"] == text
    assert (stored.project, Phase.objects.earliest("pk").phase_name, Quarantined.objects.get().error) == (
        text,
        text,
        text,
    )
