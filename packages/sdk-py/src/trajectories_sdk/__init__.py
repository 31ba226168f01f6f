"""Python SDK of the store for orchestration trajectories."""

from trajectories_sdk._version import __version__
from trajectories_sdk.background import BackgroundQueue, Counters
from trajectories_sdk.client import AsyncClient, Client
from trajectories_sdk.config import Config
from trajectories_sdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DroppedPhasesError,
    ExportBrokenError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
    TrajectoryError,
    UnsupportedMediaTypeError,
)
from trajectories_sdk.models import (
    Alerts,
    DeletedTrajectories,
    DeletedTrajectory,
    LineResult,
    MatchingTrajectories,
    PolicyEvaluation,
    Readiness,
    Recommendation,
    Stats,
    StoredTrajectory,
    TrajectoryPage,
)
from trajectories_sdk.phase_recorder import Attempt, Phase
from trajectories_sdk.propensity import thompson_propensity
from trajectories_sdk.recorder import Run
from trajectories_sdk.results import Exported, ExportProgress, RecordedMany

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "Alerts",
    "AsyncClient",
    "Attempt",
    "AuthenticationError",
    "BackgroundQueue",
    "BadRequestError",
    "Client",
    "Config",
    "ConflictError",
    "Counters",
    "DeletedTrajectories",
    "DeletedTrajectory",
    "DroppedPhasesError",
    "ExportBrokenError",
    "ExportProgress",
    "Exported",
    "LineResult",
    "MatchingTrajectories",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Phase",
    "PolicyEvaluation",
    "PreconditionFailedError",
    "RateLimitError",
    "Readiness",
    "Recommendation",
    "RecordedMany",
    "RequestTimeoutError",
    "Run",
    "ServerError",
    "ServiceUnavailableError",
    "Stats",
    "StoredTrajectory",
    "TrajectoryError",
    "TrajectoryPage",
    "UnsupportedMediaTypeError",
    "__version__",
    "thompson_propensity",
]
