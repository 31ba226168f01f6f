"""Python SDK of the store for orchestration trajectories."""

from trajectory_sdk._version import __version__
from trajectory_sdk.background import BackgroundQueue, Counters
from trajectory_sdk.client import AsyncClient, Client
from trajectory_sdk.config import Config
from trajectory_sdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ExportBrokenError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
    TrajectoryError,
    UnsupportedMediaTypeError,
)
from trajectory_sdk.models import (
    DeletedTrajectories,
    DeletedTrajectory,
    LineResult,
    MatchingTrajectories,
    Stats,
    StoredTrajectory,
    TrajectoryPage,
)
from trajectory_sdk.recorder import Phase, Run
from trajectory_sdk.results import Exported, ExportProgress, RecordedMany

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "AuthenticationError",
    "BackgroundQueue",
    "BadRequestError",
    "Client",
    "Config",
    "ConflictError",
    "Counters",
    "DeletedTrajectories",
    "DeletedTrajectory",
    "ExportBrokenError",
    "ExportProgress",
    "Exported",
    "LineResult",
    "MatchingTrajectories",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Phase",
    "RateLimitError",
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
]
