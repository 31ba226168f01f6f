from django.apps import AppConfig
from django.core.signals import request_started


class TrajectoriesConfig(AppConfig):
    name = "trajectories"
    verbose_name = "Trajectories"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Here and not above: these need the apps to be loaded. Checks and tasks register themselves.
        from trajectories import checks, relay  # noqa: F401
        from trajectories.training import tasks  # noqa: F401

        # A host project's wsgi.py knows nothing of us; its first request starts the relay.
        request_started.connect(relay.start, dispatch_uid="trajectories.relay")
