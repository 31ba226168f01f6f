from .base import *  # noqa: F403

DEBUG = True
SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost", "0.0.0.0", "127.0.0.1"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": ""}}
