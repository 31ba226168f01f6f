"""The ``TRAJECTORIES`` setting and its page in the docs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from pytest_django import Settings

from trajectories import conf
from trajectories.conf import read_settings, unknown_keys, wrong_types
from trajectories.storage.store import get_store

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def generator() -> ModuleType:
    """docs/generate_settings.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("generate_settings", DOCS / "generate_settings.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_matches_the_source(generator: ModuleType) -> None:
    assert (DOCS / "settings.md").read_text() == generator.page(), "Run: python docs/generate_settings.py"


def test_the_page_has_every_setting(generator: ModuleType) -> None:
    names = [setting.name.lower() for setting in generator.settings()]
    assert names == list(conf.Settings.__dataclass_fields__)


def test_an_override_is_seen_at_once_and_so_is_its_end(trajectories_settings: dict[str, Any]) -> None:
    before = read_settings()
    with override_settings(TRAJECTORIES=trajectories_settings | {"BATCH_MAX_RECORDS": 7}):
        assert read_settings().batch_max_records == 7
    assert read_settings() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("outbox.sqlite3", "must be a dict"),
        ({"REDIS_TTL": 3}, "no setting 'REDIS_TTL'. Did you mean 'REDIS_TTL_S'?"),
        ({"COLOUR": "blue"}, "no setting 'COLOUR'."),
    ],
)
def test_an_unknown_setting_is_refused_by_name(given: Any, message: str, settings: Settings) -> None:
    settings.TRAJECTORIES = given
    with pytest.raises(ImproperlyConfigured, match=message):
        read_settings()


def test_every_unknown_key_is_reported_with_the_nearest_known_one() -> None:
    assert unknown_keys({"OUTBOX": "x", "QUEUE": "q", "COLOUR": 1}) == {"OUTBOX": "OUTBOX_PATH", "COLOUR": None}


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("OUTBOX_PATH", 3, "x"),
        ("OUTBOX_SYNCHRONOUS", "OFF", "NORMAL"),
        ("BATCH_MAX_RECORDS", "100", 100),
        ("BATCH_MAX_RECORDS", True, 1),
        ("KEY_CACHE_S", "1", 1),
        ("KEY_CACHE_S", True, 0.5),
        ("RELAY_IN_PROCESS", 1, False),
        ("QUEUE", 1, None),
        ("PHASE_ALIASES", {"qa": 1}, {"qa": "test"}),
        ("PHASE_ALIASES", ["qa"], {}),
        ("RATE_LIMITS", {"requests_per_minute": True}, {"requests_per_minute": 1}),
        ("RATE_LIMITS", {1: 1}, {}),
    ],
)
def test_a_value_of_a_wrong_type_is_reported_with_the_right_type(key: str, bad: Any, good: Any) -> None:
    assert list(wrong_types({key: bad})) == [key]
    assert wrong_types({key: good}) == {}


def test_a_path_object_is_as_good_as_its_text(settings: Settings, tmp_path: Path) -> None:
    settings.TRAJECTORIES = {"OUTBOX_PATH": tmp_path / "outbox.sqlite3"}
    assert read_settings().outbox_path == str(tmp_path / "outbox.sqlite3")


def test_without_a_path_nothing_is_acknowledged(settings: Settings) -> None:
    settings.TRAJECTORIES = {}
    with pytest.raises(ImproperlyConfigured, match="OUTBOX_PATH"):
        _ = get_store().outbox
