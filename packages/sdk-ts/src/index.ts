/**
 * Client of the trajectory store: record, list, analyse and export runs of multi-phase agent workflows.
 *
 * @packageDocumentation
 */
export { type AdviceOptions, type EvaluationFields, Evaluations, type RecommendationFields, Recommendations } from "./advice.js";
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
  DroppedPhasesError,
  type ErrorAnswer,
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
} from "./errors.js";
export { type ExportOptions, TrajectoryExport } from "./exporting.js";
export { TrajectoryList } from "./listing.js";
export {
  type AttemptFields,
  type AttemptOptions,
  PhaseAttempt,
  type PhaseFields,
  type PhaseOptions,
  RunPhase,
  type Usage,
} from "./phase.js";
export { Outcomes } from "./outcomes.js";
export { type PropensityOptions, thompsonPropensity } from "./propensity.js";
export { type FeedbackOptions, type OutcomeOptions, Run, type RunFields, type RunOptions, type SkipOptions } from "./recorder.js";
export type { RecordManyOptions, RecordOptions, UpdateOptions } from "./recording.js";
export { Trajectories } from "./trajectories.js";
export type {
  Alerts,
  Attempt,
  Candidate,
  CandidateModel,
  DeletedTrajectories,
  DeletedTrajectory,
  DeleteParameters,
  Derived,
  ErrorObject,
  ErrorProblem,
  EvaluationRequest,
  Exploration,
  ExplorationPatch,
  Exported,
  ExportParameters,
  ExportProgress,
  FeedbackLoop,
  Filters,
  LateOutcome,
  LineResult,
  ListParameters,
  MatchingTrajectories,
  Outcome,
  Phase,
  PhaseOutcome,
  PhasePatch,
  PolicyEvaluation,
  Rate,
  Readiness,
  ReadinessParameters,
  Recommendation,
  RecommendationRequest,
  RecordedMany,
  RecordWarning,
  RequestOptions,
  Stats,
  StatsParameters,
  StoredOutcome,
  StoredTrajectory,
  Trajectory,
  TrajectoryPage,
  TrajectoryPatch,
} from "./types.js";
