from django.urls import include, path

urlpatterns = [path("store/", include("trajectories.urls"))]
