"""The HTTP API of recommendations: what recorded runs say about the next decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import orjson
from django.http import HttpResponse
from rest_framework.request import Request

from trajectories.api.pagination import bounded
from trajectories.api.parsers import JSON
from trajectories.api.viewset import ApiViewSet, documented
from trajectories.domain.contract_types import MAX_NAME
from trajectories.domain.query import parse_query
from trajectories.exceptions import InvalidInput
from trajectories.learning import drift, evaluate, forecast, recommend
from trajectories.learning.context import parse_request
from trajectories.learning.policies import parse_evaluation
from trajectories.storage.store import get_store


class LearningViewSet(ApiViewSet):
    """Recommend, the best models, a forecast of costs, the evaluation of policies, and alerts."""

    required_scopes: ClassVar[Mapping[str, str]] = {
        "recommend": "read",
        "recommend_models": "read",
        "forecast_cost": "read",
        "evaluate": "read",
        "alerts": "read",
    }

    @documented("recommend")
    def recommend(self, request: Request) -> HttpResponse:
        """An action for the next phase, with its probability."""
        self._parameters(())
        asked = parse_request(self._data(self._parser(self.parser_classes, JSON)))
        return _json(recommend.recommend(get_store(), self.caller.tenant, asked))

    @documented("recommend_models")
    def recommend_models(self, request: Request) -> HttpResponse:
        """The best model of each type of task."""
        given = self._names(("taskType", "framework"))
        return _json(
            forecast.best_models(get_store(), self.caller.tenant, given.get("taskType"), given.get("framework"))
        )

    @documented("forecast_cost")
    def forecast_cost(self, request: Request) -> HttpResponse:
        """The expected cost of a run of a type."""
        given = self._names(("taskType", "complexity"))
        if "taskType" not in given:
            raise InvalidInput("taskType is required.", code="invalid_parameter", param="taskType")
        task_type, complexity = given["taskType"], given.get("complexity")
        found = forecast.forecast_cost(get_store(), self.caller.tenant, task_type, complexity)
        return _json(
            {
                "taskType": task_type,
                "complexity": complexity,
                "estimatedCost": found.estimate_usd,
                "range": [found.low_usd, found.high_usd],
                "basedOnSamples": found.samples,
            }
        )

    @documented("evaluate")
    def evaluate(self, request: Request) -> HttpResponse:
        """The value that another policy would have had."""
        self._parameters(())
        asked = parse_evaluation(self._data(self._parser(self.parser_classes, JSON)))
        store = get_store()
        found = evaluate.evaluate(
            store,
            self.caller.tenant,
            parse_query(asked.filters, store.now_us()),
            asked.policy,
            phase=asked.phase,
            estimand=asked.estimand,
            rule=asked.credit,
            max_runs=min(asked.max_runs, evaluate.REQUEST_RUNS),
            max_phases=evaluate.REQUEST_PHASES,
            max_bytes=evaluate.REQUEST_BYTES,
            seed=asked.seed,
        )
        return _json(evaluate.result_json(found))

    @documented("alerts")
    def alerts(self, request: Request) -> HttpResponse:
        """Changes in the choices and their success."""
        given = self._parameters(("weeks",))
        weeks = bounded("weeks", given.get("weeks"), default=drift.DEFAULT_WEEKS, most=drift.MAX_WEEKS)
        return _json(drift.alerts(get_store(), self.caller.tenant, weeks=weeks))

    def _names(self, allowed: tuple[str, ...]) -> dict[str, str]:
        given = self._parameters(allowed)
        for name, text in given.items():
            if "\x00" in text or len(text) > MAX_NAME:
                raise InvalidInput(
                    f"{name} must have at most {MAX_NAME} characters and no NUL character.",
                    code="invalid_parameter",
                    param=name,
                )
        return given


def _json(answer: object) -> HttpResponse:
    return HttpResponse(orjson.dumps(answer), content_type=JSON)
