"""Flows of recommendations, evaluations and alerts, the same for both clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from trajectories_sdk.config import Config
from trajectories_sdk.flow import JSON, Flow, call_for, request
from trajectories_sdk.models import Alerts, PolicyEvaluation, Recommendation
from trajectories_sdk.params import CandidateModel, RulePolicy
from trajectories_sdk.recording import encoded

RECOMMENDATIONS: Final = "/v1/agent/recommendations"
EVALUATIONS: Final = "/v1/agent/evaluations"
ALERTS: Final = "/v1/agent/alerts"
AnyCandidate: TypeAlias = str | CandidateModel
_QUICK_S: Final = 2.0


def quick(config: Config) -> Config:
    """Return options for a question that a pipeline waits for: no retries, and a short timeout."""
    return replace(config, timeout_s=min(config.timeout_s, _QUICK_S), max_retries=0)


def recommend(
    config: Config, phase: str, candidates: Sequence[AnyCandidate], fields: Mapping[str, Any]
) -> Flow[Recommendation]:
    """Ask for a recommendation. A candidate is a name, or an object with its cost or prices."""
    models = [{"model": one} if isinstance(one, str) else one for one in candidates]
    body = encoded({"phase": phase, "candidates": models, **fields})
    sent = request(config, "POST", RECOMMENDATIONS, body=body, content_type=JSON)
    return (yield from call_for(config, sent, Recommendation))


def evaluate(config: Config, policy: RulePolicy, fields: Mapping[str, Any]) -> Flow[PolicyEvaluation]:
    """Ask what another policy would have earned."""
    body = encoded({"policy": policy, **fields})
    sent = request(config, "POST", EVALUATIONS, body=body, content_type=JSON)
    return (yield from call_for(config, sent, PolicyEvaluation))


def alerts(config: Config, weeks: int | None) -> Flow[Alerts]:
    return (yield from call_for(config, request(config, "GET", ALERTS, {"weeks": weeks}), Alerts))
