"""A project in development. It has no settings for tests, and does not turn the relay off."""

import json
import os

SECRET_KEY = "only for tests, and long enough for a key of HS256"
JWT_KEY = SECRET_KEY
STATIC_URL = "static/"
ROOT_URLCONF = "myproject.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "trajectories",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {"default": json.loads(os.environ["PROJECT_DATABASE"])}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "trajectories": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{os.environ['PROJECT_REDIS_URL']}/0",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 1},
    },
}
CELERY_BROKER_URL = f"{os.environ['PROJECT_REDIS_URL']}/1"
TRAJECTORIES = {"OUTBOX_PATH": os.environ["PROJECT_OUTBOX"], "RATE_LIMITS": {"requests_per_minute": 1000}}
