from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "trajectory_site"
    verbose_name = "Site"

    def ready(self) -> None:
        from django.contrib import admin

        # Tasks belong to this Celery app, whichever process sends them. The web server's main
        # process does not load Django, and starts faster without Celery.
        from trajectory_site import celery as celery
        from trajectory_site import login

        admin.site.login_form = login.LoginForm
