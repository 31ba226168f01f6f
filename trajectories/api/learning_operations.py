"""The description of the operations of recommendations; see ``operations``."""

from __future__ import annotations

from typing import Any

from trajectories.api import learning_responses
from trajectories.api.operations import errors, parameter
from trajectories.domain.contract_types import MAX_NAME, NO_NUL
from trajectories.learning.context import RecommendationRequest
from trajectories.learning.drift import DEFAULT_WEEKS, MAX_WEEKS
from trajectories.learning.policies import EvaluationRequest

_JSON = "application/json"
_NAME = {"type": "string", "pattern": NO_NUL, "maxLength": MAX_NAME}


def _recommend() -> dict[str, Any]:
    return {
        "summary": "Recommend",
        "description": "An action for the next phase: a model, a plan (one model, another after a failed check), or skipping it. Each"
        " action has its success with an interval, cost, value and probability; the choice is drawn from these probabilities."
        " Success is credited success. Nothing is stored: record the phase with the fields in record.",
        "request": {_JSON: RecommendationRequest},
        "parameters": [],
        "responses": {200: learning_responses.Recommendation} | errors(400, 401, 403, 408, 413, 415, 429, 503),
    }


def _recommend_models() -> dict[str, Any]:
    return {
        "summary": "Best models",
        "description": "The best model of each type of task, as an existing command line tool reads it. A type of task is a request"
        " type, or a phase where no run has such a type.",
        "parameters": [
            parameter("taskType", _NAME, "One type of task."),
            parameter("framework", _NAME, "Only runs of this project."),
        ],
        "responses": {200: learning_responses.ModelRecommendations} | errors(400, 401, 403, 429, 503),
    }


def _forecast_cost() -> dict[str, Any]:
    return {
        "summary": "Cost forecast",
        "description": "The median cost of a run of a type, with the tenth and ninetieth percentile, at most 1 % off.",
        "parameters": [
            parameter("taskType", _NAME, "A request type.", required=True),
            parameter("complexity", _NAME, "Only runs with this tag, where some have it."),
        ],
        "responses": {200: learning_responses.CostForecast} | errors(400, 401, 403, 429, 503),
    }


def _evaluate() -> dict[str, Any]:
    return {
        "summary": "Evaluate a policy",
        "description": "The mean reward that a policy would have had at the recorded decisions, or the mean outcome of runs that it"
        " decides: inverse propensity score, the same self-normalized, and for decisions doubly robust. Refuses in one sentence where"
        " it cannot be known. The policy chooses the first model of each phase. It reads the newest runs: 1,000 of them, 4,000 phases and"
        " 3 MiB of bodies at most. runs says how many, and complete whether these are all; the command evaluate_policy reads more."
        " It needs the server's extra learning.",
        "request": {_JSON: EvaluationRequest},
        "parameters": [],
        "responses": {200: learning_responses.PolicyEvaluation} | errors(400, 401, 403, 408, 413, 415, 429, 503),
    }


def _alerts() -> dict[str, Any]:
    return {
        "summary": "Alerts",
        "description": "One model takes more than 80 % of the choices of a phase, the success of a model left the interval that it"
        " had before, or recommendations were ignored or did worse than other choices.",
        "parameters": [
            parameter(
                "weeks",
                {"type": "integer", "minimum": 1, "maximum": MAX_WEEKS, "default": DEFAULT_WEEKS},
                "Length of the period that is compared with everything before it.",
            )
        ],
        "responses": {200: learning_responses.Alerts} | errors(400, 401, 403, 429, 503),
    }


LEARNING_OPERATIONS = {
    "alerts": _alerts,
    "evaluate": _evaluate,
    "recommend": _recommend,
    "recommend_models": _recommend_models,
    "forecast_cost": _forecast_cost,
}
