from django.urls import include, path

from benchmarks.baselines import EmptyView, NestedView

urlpatterns = [
    path("empty", EmptyView.as_view()),
    path("nested", NestedView.as_view()),
    path("", include("trajectory_site.urls")),
]
