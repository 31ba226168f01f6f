"""``client.outcomes``: results of runs that are known after they were recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from trajectories_sdk import outcome_recording
from trajectories_sdk.models import StoredOutcome
from trajectories_sdk.outcome_recording import OutcomeFields, Value, fields_of
from trajectories_sdk.params import LateOutcome
from trajectories_sdk.values import Id

if TYPE_CHECKING:
    from trajectories_sdk.client import AsyncClient, Client


class _Queued:
    """The half that needs no response, so that it is the same for both clients."""

    _client: Client | AsyncClient

    def enqueue(self, name: str, value: Value, **fields: Unpack[OutcomeFields]) -> None:
        """Record one outcome in the background, as ``BackgroundQueue`` does for runs.

        Args:
            name, value, fields: as for ``record``.
        """
        self._enqueue(fields_of(name, value, fields))

    def _enqueue(self, fields: LateOutcome) -> None:
        """Record one outcome in the background, as ``fields_of`` made it."""
        self._client.queue.enqueue_outcome(fields)


class Outcomes(_Queued):
    """Record and list late outcomes.

    Every method but ``enqueue`` may raise an ``APIConnectionError`` or an ``APIStatusError``.
    """

    def __init__(self, client: Client) -> None:
        self._client: Client = client

    def record(self, name: str, value: Value, **fields: Unpack[OutcomeFields]) -> StoredOutcome:
        """Record one outcome. It is durable when this method returns. Its run need not have come.

        Args:
            name: such as ``merged``, ``reverted`` or ``review_score``; ``fit`` takes a word.
            value: True or False, a number, or for ``fit`` one of ``good_fit``, ``underpowered``,
                ``overprovisioned``, ``failed``.
            fields: ``trajectory_id`` or ``reference``, and ``phase_id``, ``at``, ``evidence`` and
                ``idempotency_key``; ``OutcomeFields`` describes them.

        Raises:
            BadRequestError: 400; ``details`` lists every problem.
            ConflictError: 409; the run was deleted, the key was used for another outcome, or the
                target has as many outcomes as it may have.
            TypeError: a field is unknown.
            ValueError: there is not exactly one of ``trajectory_id`` and ``reference``.
        """
        given = fields_of(name, value, fields)
        return self._client._driver.run(outcome_recording.record(self._client.config, given))

    def list(self, id: Id) -> list[StoredOutcome]:  # noqa: A002  the name in the API
        """Return the outcomes of one run, in the order of their acceptance.

        Raises:
            NotFoundError: 404.
        """
        return self._client._driver.run(outcome_recording.list_of(self._client.config, id))


class AsyncOutcomes(_Queued):
    """Async counterpart of ``Outcomes``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client: AsyncClient = client

    async def record(self, name: str, value: Value, **fields: Unpack[OutcomeFields]) -> StoredOutcome:
        """Like ``Outcomes.record``."""
        given = fields_of(name, value, fields)
        return await self._client._driver.run(outcome_recording.record(self._client.config, given))

    async def list(self, id: Id) -> list[StoredOutcome]:  # noqa: A002  the name in the API
        """Like ``Outcomes.list``."""
        return await self._client._driver.run(outcome_recording.list_of(self._client.config, id))
