"""``client.recommendations``, ``client.evaluations`` and ``client.alerts`` of both clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from trajectories_sdk import advising
from trajectories_sdk.advising import AnyCandidate
from trajectories_sdk.models import PolicyEvaluation, Recommendation
from trajectories_sdk.params import EvaluationFields, RecommendationFields, RulePolicy

if TYPE_CHECKING:
    from trajectories_sdk.client import AsyncClient, Client


class Recommendations:
    """Recommendations of the store for the next decision.

    Every method may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(
        self, phase: str, candidates: Sequence[AnyCandidate], **fields: Unpack[RecommendationFields]
    ) -> Recommendation:
        """Return an action for the next phase with its probability, and what is known of the
        others.

        Nothing is stored: record the phase with the fields in ``record``, or let ``run.phase(…,
        recommend=True)`` do it.

        Args:
            phase: the phase to run.
            candidates: models, or objects with ``model`` and its cost or prices.
            fields: the other fields of a request, such as ``budget_usd`` or ``floor``.

        Raises:
            BadRequestError: 400; ``details`` lists every problem with its path.
        """
        return self._client._driver.run(advising.recommend(self._client.config, phase, candidates, fields))


class AsyncRecommendations:
    """Recommendations of the store for the next decision.

    Every method may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self, phase: str, candidates: Sequence[AnyCandidate], **fields: Unpack[RecommendationFields]
    ) -> Recommendation:
        """Like ``Recommendations.create``."""
        return await self._client._driver.run(advising.recommend(self._client.config, phase, candidates, fields))


class Evaluations:
    """Evaluations of policies on recorded decisions."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, policy: RulePolicy, **fields: Unpack[EvaluationFields]) -> PolicyEvaluation:
        """Return the mean reward that a policy would have had, or in ``refusal`` why it cannot be
        known.

        Args:
            policy: ``{"always": model}``, or ``{"rules": […], "default": …}``.
            fields: ``phase``, ``filters``, ``credit``, ``max_runs`` and ``seed``.

        Raises:
            BadRequestError: 400; ``details`` lists every problem, or the server lacks numpy.
        """
        return self._client._driver.run(advising.evaluate(self._client.config, policy, fields))


class AsyncEvaluations:
    """Evaluations of policies on recorded decisions."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(self, policy: RulePolicy, **fields: Unpack[EvaluationFields]) -> PolicyEvaluation:
        """Like ``Evaluations.create``."""
        return await self._client._driver.run(advising.evaluate(self._client.config, policy, fields))
