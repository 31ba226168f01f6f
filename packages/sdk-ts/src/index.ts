/**
 * Client of the trajectory store: record, list, analyse and export runs of multi-phase agent workflows.
 *
 * @packageDocumentation
 */
export { BackgroundQueue, type Counters, type TimeoutOptions } from "./background.js";
export { TrajectoryClient } from "./client.js";
export { type ClientOptions, Config } from "./config.js";
export {
  APIConnectionError,
  APIStatusError,
  APITimeoutError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  type ErrorAnswer,
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
} from "./errors.js";
export { type ExportOptions, TrajectoryExport } from "./exporting.js";
export { TrajectoryList } from "./listing.js";
export {
  type FeedbackOptions,
  type PhaseFields,
  type PhaseOptions,
  Run,
  type RunFields,
  type RunOptions,
  RunPhase,
  type SkipOptions,
  type Usage,
} from "./recorder.js";
export type { RecordManyOptions } from "./recording.js";
export { Trajectories } from "./trajectories.js";
export type {
  Candidate,
  DeletedTrajectories,
  DeletedTrajectory,
  DeleteParameters,
  ErrorObject,
  ErrorProblem,
  Exported,
  ExportParameters,
  ExportProgress,
  FeedbackLoop,
  Filters,
  LineResult,
  ListParameters,
  MatchingTrajectories,
  Outcome,
  Phase,
  PhaseOutcome,
  Rate,
  Readiness,
  ReadinessParameters,
  RecordedMany,
  RequestOptions,
  Stats,
  StoredTrajectory,
  Trajectory,
  TrajectoryPage,
} from "./types.js";
