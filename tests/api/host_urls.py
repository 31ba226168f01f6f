"""URLs of a host project that has an API of its own, and includes this one."""

from __future__ import annotations

from django.urls import include, path
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.response import Response

from trajectories.models import Tenant


class Phase(serializers.Serializer[Tenant]):
    """A component whose name this app has too."""

    moon = serializers.CharField()


class Schema(AutoSchema):
    def get_operation_id(self) -> str:
        return "list"  # this app has an operation of that name too


class MoonView(GenericAPIView[Tenant]):
    schema = Schema()
    serializer_class = Phase
    queryset = Tenant.objects.none()

    def get(self, request: object) -> Response:
        return Response({"moon": "full"})


urlpatterns = [path("moon", MoonView.as_view()), path("store/", include("trajectories.urls"))]

ALONE: dict[str, object] = {"OAS_VERSION": "3.0.3"}
WITH_3_0 = ALONE | {"POSTPROCESSING_HOOKS": ["trajectories.api.openapi.include_in_schema"]}
WITH_3_1 = WITH_3_0 | {"OAS_VERSION": "3.1.1"}
