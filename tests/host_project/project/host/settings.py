"""Settings that are the opposite of ours wherever they can be."""

import os
from pathlib import Path
from typing import Any

HOST_DIR = Path(os.environ["HOST_DIR"])
REDIS_URL = os.environ["HOST_REDIS_URL"]

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "host.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "trajectories"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
APPEND_SLASH = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 100

USE_TZ = False
TIME_ZONE = "America/New_York"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(HOST_DIR / "host.sqlite3"),
        "ATOMIC_REQUESTS": True,
        # A transaction around a request would wait for every writer, and give up quickly.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 1, "init_command": "PRAGMA journal_mode=WAL"},
    }
}

_UNTOUCHABLE = "host.hostile.Untouchable"
REST_FRAMEWORK = {
    **{
        f"DEFAULT_{what}_CLASSES": [_UNTOUCHABLE]
        for what in ("RENDERER", "PARSER", "AUTHENTICATION", "PERMISSION", "THROTTLE")
    },
    **{
        f"DEFAULT_{what}_CLASS": _UNTOUCHABLE
        for what in ("CONTENT_NEGOTIATION", "METADATA", "VERSIONING", "PAGINATION")
    },
    "DEFAULT_SCHEMA_CLASS": "host.hostile.Schema",
    "DEFAULT_FILTER_BACKENDS": [_UNTOUCHABLE],
    "EXCEPTION_HANDLER": "host.hostile.untouchable",
    "UNAUTHENTICATED_USER": _UNTOUCHABLE,
    "UNAUTHENTICATED_TOKEN": _UNTOUCHABLE,
    "PAGE_SIZE": 1,
    "URL_FORMAT_OVERRIDE": "source",
    "DATETIME_FORMAT": "%d/%m/%Y",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Another API",
    "OAS_VERSION": "3.0.3",
    "SCHEMA_PATH_PREFIX": "/store",
    "SCHEMA_PATH_PREFIX_TRIM": True,
    "COMPONENT_SPLIT_REQUEST": True,
    "CAMELIZE_NAMES": True,
    "SORT_OPERATIONS": False,
    "PREPROCESSING_HOOKS": ["host.hostile.untouchable"],
    "POSTPROCESSING_HOOKS": ["host.hostile.untouchable"],
    "LICENSE": {"name": "of the host"},
    "CONTACT": {"name": "of the host"},
    "EXTERNAL_DOCS": {"url": "https://host.invalid"},
    "SECURITY": [{"ofTheHost": []}],
    "APPEND_PATHS": {"/of-the-host": {}},
}

# --- What the app needs, and no more. Left out at will, to see what the checks say of it.

CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "runs": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{REDIS_URL}/0",
        "KEY_PREFIX": "host",
        "VERSION": 7,
    },
}
TRAJECTORIES = {"OUTBOX_PATH": str(HOST_DIR / "outbox.sqlite3"), "CACHE_ALIAS": "runs", "QUEUE": "runs"}
for _name in os.environ.get("HOST_WITHOUT", "").split():
    globals()[_name] = {"default": CACHES["default"]} if _name == "CACHES" else {}

CELERY_BROKER_URL = f"{REDIS_URL}/1"
CELERY_TASK_DEFAULT_QUEUE = "another"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_IGNORE_RESULT = False
CELERY_TASK_DEFAULT_RATE_LIMIT = "1/h"
CELERY_TASK_SOFT_TIME_LIMIT = 60
CELERY_TASK_TIME_LIMIT = 300
CELERY_RESULT_BACKEND = f"{REDIS_URL}/2"
