"""Settings of the site, all from the environment.

The quick start creates its own environment, which commands beside it use too; every other process
needs ``SECRET_KEY``.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from kombu.transport import TRANSPORT_ALIASES
from redis.backoff import NoBackoff
from redis.retry import Retry

from trajectories import private_files
from trajectories.conf import Settings, unknown_keys, wrong_types
from trajectory_site import data_dir, database, environment, redis_url

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = environment.boolean("DEBUG")

# Files of this host: SQLite archive and outbox, unless configured elsewhere.
DATA_DIR = data_dir.chosen(environment.text("DATA_DIR"))

SECRET_KEY = environment.text("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Put a long random text into that environment variable, the same for every process of "
        f"the site. Only `quickstart` makes a key of its own; there is none in {DATA_DIR}."
    )

# Earlier keys, while processes still use or have used them.
SECRET_KEY_FALLBACKS = environment.names("SECRET_KEY_FALLBACKS")

ALLOWED_HOSTS = environment.hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = environment.origins("CSRF_TRUSTED_ORIGINS", has_wildcards=True)

try:
    private_files.make_folder(DATA_DIR)
except OSError as error:
    environment.refuse("DATA_DIR", f"cannot be used: {error}.")

# --- Apps, requests, pages

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "trajectories",
    "trajectory_site",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "trajectory_site.page_bodies.bound_bodies",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# For requests below /v1/, which have no session, form or page (``api_requests``).
API_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "trajectory_site.api_requests.content_security_policy",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "trajectory_site.urls"
WSGI_APPLICATION = "trajectory_site.wsgi.application"
ASGI_APPLICATION = "trajectory_site.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps' own, some of which they replace. The wheel has them as trajectory_site/templates.
        "DIRS": [(BASE_DIR if data_dir.IS_CHECKOUT else BASE_DIR / "trajectory_site") / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# The path below which the site is, such as /store, if a proxy serves it there. A proxy can name the
# path of each request instead; it must then set or strip the header.
URL_PREFIX = environment.path_prefix("URL_PREFIX")
TRUST_X_FORWARDED_PREFIX = environment.boolean("TRUST_X_FORWARDED_PREFIX")

# Without a STATIC_ROOT, files come from the installed packages, so collectstatic is not needed.
STATIC_URL = "/static/"  # the storages add the prefix of the request
STATIC_ROOT = str(Path(environment.text("STATIC_ROOT")).expanduser()) if environment.text("STATIC_ROOT") else None
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": f"trajectory_site.path_prefix.{'ManifestStorage' if STATIC_ROOT else 'PlainStorage'}"},
}

# The docs page loads its assets from the site, so it works without the internet.
SPECTACULAR_SETTINGS = {
    "SERVE_INCLUDE_SCHEMA": False,
    # The check inspects every view. The app builds its own document, and a test checks it.
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # An authorised key stays in the page's memory: localStorage is that of the admin's origin.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": False, "displayRequestDuration": True},
}

# --- The archive

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": database.from_environment(
        {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DATA_DIR / "db.sqlite3")},
    )
}
database.make_private(DATABASES["default"])

# --- The Redis tier and the broker

REDIS_URL = redis_url.normalized("REDIS_URL", environment.text("REDIS_URL", "redis://127.0.0.1:6379/0"))
REDIS_TIMEOUT_S = environment.seconds("REDIS_TIMEOUT_S", 1.0)
_redis_cache = redis_url.cache("REDIS_URL", REDIS_URL)

CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "trajectories": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _redis_cache["LOCATION"],
        "OPTIONS": {
            **_redis_cache["OPTIONS"],
            "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_S,
            "SOCKET_TIMEOUT": REDIS_TIMEOUT_S,
            # redis-py by default tries four times with pauses, which multiplies the timeout.
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
        },
    },
}

_broker = environment.text("CELERY_BROKER_URL")
CELERY_BROKER_URL = redis_url.explicit_broker("CELERY_BROKER_URL", _broker) if _broker else redis_url.broker(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker without a limit
CELERY_BROKER_CHANNEL_ERROR_RETRY = True  # also while it refuses: at maxmemory, as a replica
CELERY_BROKER_CONNECTION_TIMEOUT = 3
if CELERY_BROKER_URL.startswith(("redis", "sentinel")):  # redis, rediss, redis+socket
    CELERY_BROKER_TRANSPORT = "trajectory_site.broker:" + (
        "SentinelTransport"
        if CELERY_BROKER_URL.startswith("sentinel")
        else "Transport"
        if _broker
        else "NextDatabaseTransport"
    )
    if CELERY_BROKER_URL.startswith("redis+socket"):  # then Kombu takes the transport's name from the URL
        TRANSPORT_ALIASES["redis"] = CELERY_BROKER_TRANSPORT
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "socket_connect_timeout": 3,
        # Otherwise Kombu retries a refused connection inside a publication, with pauses of seconds.
        "max_retries": 0,
        # Longer than a worker's BRPOP, which blocks for one second.
        "socket_timeout": 5,
        "health_check_interval": 10,
        **redis_url.sentinel_options("CELERY_BROKER_URL", _broker or REDIS_URL),
    }
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
# Early: the relay sends again, and a message that kills its worker must not return by itself.
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_DEFAULT_QUEUE = "trajectories"
# The relay retries, so a publication fails at once.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "trajectory_site.task_pool:TaskPool"
CELERY_WORKER_REDIRECT_STDOUTS = False
# Commands of remote control are not signed: a client of the broker could stop the workers.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TIMEZONE = TIME_ZONE

# --- The app


def _from_environment(prefix: str) -> dict[str, Any]:
    """Return ``{"KEY": value}`` for each ``PREFIX_KEY``: texts as they are, other types as JSON.

    Raises:
        ImproperlyConfigured: a variable names no setting, or has a value of another type.
    """
    types = {field.name.upper(): str(field.type) for field in fields(Settings)}
    given: dict[str, Any] = {}
    for name in os.environ:
        key, value = name.removeprefix(prefix), environment.text(name)
        if not name.startswith(prefix) or not value:
            continue
        if types.get(key) == "bool":
            given[key] = environment.as_boolean(name, value)
        elif types.get(key, "").startswith("str"):  # a queue or a secret may consist of digits
            given[key] = value
        else:
            try:
                given[key] = json.loads(value)
            except ValueError:
                given[key] = value
    for key, near in unknown_keys(given).items():
        environment.refuse(f"{prefix}{key}", "is no setting." + (f" Did you mean {prefix}{near}?" if near else ""))
    for key, wanted in wrong_types(given).items():
        environment.refuse(f"{prefix}{key}", f"cannot be {given[key]!r}. It wants {wanted}.")
    return given


TRAJECTORIES = {
    "OUTBOX_PATH": str(DATA_DIR / "outbox.sqlite3"),
    # Sites can share a broker; trajectory_site.celery makes the worker consume this queue.
    "QUEUE": "trajectories-{store}",
} | _from_environment("TRAJECTORIES_")

# A function of the operator may read the user of a session.
if TRAJECTORIES.get("TENANT_FROM_REQUEST"):
    API_MIDDLEWARE = MIDDLEWARE

# --- Behind HTTPS

SECURE_SSL_REDIRECT = environment.boolean("SECURE_SSL_REDIRECT")
SECURE_HSTS_SECONDS = environment.integer("SECURE_HSTS_SECONDS", 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = environment.boolean("SECURE_HSTS_INCLUDE_SUBDOMAINS")
SECURE_HSTS_PRELOAD = environment.boolean("SECURE_HSTS_PRELOAD")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.boolean("SECURE_COOKIES", default=SECURE_SSL_REDIRECT)
if environment.boolean("TRUST_X_FORWARDED_PROTO"):
    # Only behind a proxy that sets or strips this header: a client that can send it can fake HTTPS.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# A probe inside the cluster uses plain HTTP; the response holds no secret.
SECURE_REDIRECT_EXEMPT = [r"(^|/)health(/(live|ready))?$"]

# Scripts and styles are files of the site. No page has inline ones, so no nonce is needed.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        # The docs page's stylesheet contains its icons.
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# --- Pages of other origins

# For example https://app.example.com. Empty by default; then corsheaders is not loaded.
CORS_ALLOWED_ORIGINS = environment.origins("CORS_ALLOWED_ORIGINS", has_wildcards=False)
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")  # its checks reject an invalid origin at start
    # Before middleware that may respond, so that each response has CORS headers; after the
    # middleware that adds the site's own headers.
    MIDDLEWARE.insert(
        MIDDLEWARE.index("whitenoise.middleware.WhiteNoiseMiddleware"), "corsheaders.middleware.CorsMiddleware"
    )
    API_MIDDLEWARE.insert(
        API_MIDDLEWARE.index("django.middleware.common.CommonMiddleware"), "corsheaders.middleware.CorsMiddleware"
    )
# Only the API. Its callers send a key in a header, so cookies are never allowed.
CORS_URLS_REGEX = r"^/v1/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_METHODS = ["GET", "POST", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "x-idempotency-key",
    "x-request-id",
    # MCP clients send these with each message.
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
]
CORS_EXPOSE_HEADERS = [
    "ETag",
    "Location",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Resource",
    "X-Request-Id",
]

# --- Logs and reports

DEFAULT_EXCEPTION_REPORTER_FILTER = "trajectory_site.exception_filter.ReporterFilter"

_LOG_LEVEL = environment.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL"), "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "trajectory_site.logs.LineFormatter",
            "format": environment.log_format(
                "LOG_FORMAT", "%(asctime)s [%(request_id)s] %(levelname)s %(name)s: %(message)s"
            ),
            "defaults": {"request_id": "-"},
        }
    },
    "filters": {"request_id": {"()": "trajectories.api.request_ids.RequestIdFilter"}},
    # With the level, because a logger with a level of its own does not ask the root for one.
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["request_id"],
            "level": _LOG_LEVEL,
        }
    },
    "root": {"handlers": ["stderr"], "level": _LOG_LEVEL},
    # Django's handlers (console only with DEBUG, mails to ADMINS) would drop or double its lines.
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # These would log each request of an MCP call, with its filters.
        "httpx2": {"level": "WARNING"},
        "mcp": {"level": "WARNING"},
    },
}
