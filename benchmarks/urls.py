from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from benchmarks.baselines import EmptyView, NestedView, ShortView, bare_view

urlpatterns = [
    path("empty", EmptyView.as_view()),
    path("bare", csrf_exempt(bare_view)),
    path("nested", NestedView.as_view()),
    path("short", ShortView.as_view()),
    path("", include("trajectory_site.urls")),
]
