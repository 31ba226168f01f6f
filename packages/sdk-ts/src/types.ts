/** Names for the types of the API. They come from the generated `openapi.ts`; fields have the names of the API. */
import type { components, operations } from "./openapi.js";

type Schemas = components["schemas"];
type Query<Name extends keyof operations> = NonNullable<
  "query" extends keyof operations[Name]["parameters"] ? operations[Name]["parameters"]["query"] : never
>;
type Times = "since" | "until" | "started_since" | "started_until";
/** A time may be a `Date`, or a string: a time, a date in UTC, or a span before now such as "7d". Undefined parameters are omitted. */
type Parameters<Given> = { [Name in keyof Given]: (Name extends Times ? Given[Name] | Date : Given[Name]) | undefined };

/** One run of a multi-phase workflow, as sent to the store. */
export type Trajectory = Schemas["Trajectory"];
/** One phase of a run. Phases are in order; a name may repeat. */
export type Phase = Schemas["Phase"];
/** One model's attempt at a phase. */
export type Attempt = Schemas["Attempt"];
/** A candidate model of a phase. */
export type Candidate = Schemas["Candidate"];
/** How the choice of a model explored: strategy, draws and seed. */
export type Exploration = Schemas["Exploration"];
/** Fields of an exploration to change. Null deletes a field. */
export type ExplorationPatch = Schemas["ExplorationPatch"];
/** A later phase sent work back to an earlier one. */
export type FeedbackLoop = Schemas["FeedbackLoop"];
/** Fields of a phase to change, or of a phase to append, by its `phase_id`. Null deletes a field. */
export type PhasePatch = Schemas["PhasePatch"];
/** Fields of a trajectory to change. Null deletes a field. */
export type TrajectoryPatch = Schemas["TrajectoryPatch"];
/** How a run ended. */
export type Outcome = NonNullable<Trajectory["outcome"]>;
/** How a phase ended. */
export type PhaseOutcome = NonNullable<Phase["outcome"]>;

/** A stored trajectory, with `recorded_at` and `revision`. Fields that were not sent are absent. */
export type StoredTrajectory = Schemas["StoredTrajectory"];
/** A late outcome, as sent to the store. */
export type LateOutcome = Schemas["LateOutcome"];
/** A late outcome as stored. Fields that were not sent are absent. */
export type StoredOutcome = Schemas["StoredOutcome"];
/** What the store derives from a record. Unknown is null, never 0. */
export type Derived = Schemas["Derived"];
/** A contradiction in a record. */
export type RecordWarning = Schemas["RecordWarning"];
/** A page of the list, newest first. `complete` is false if a required part of the server was unavailable. */
export type TrajectoryPage = Schemas["TrajectoryPage"];
/** Totals and groups of all matching trajectories. Unknown is null, never 0. */
export type Stats = Schemas["Stats"];
/** Measures of trajectories as training data, and checks of them. */
export type Readiness = Schemas["Readiness"];
/** A decision to make now: the phase, its candidates, what is known and which rules hold. */
export type RecommendationRequest = Partial<Schemas["RecommendationRequest"]> & Pick<Schemas["RecommendationRequest"], "phase" | "candidates">;
/** A model that may run a phase, with its cost or prices where they are known. */
export type CandidateModel = Schemas["CandidateModel"];
/** An action for a phase with its probability, and what is known of the others. */
export type Recommendation = Schemas["Recommendation"];
/** A policy, and the recorded decisions on which it is evaluated. */
export type EvaluationRequest = Partial<Schemas["EvaluationRequest"]> & { policy: Partial<Schemas["RulePolicy"]> };
/** The mean reward that a policy would have had, or why it cannot be known. */
export type PolicyEvaluation = Schemas["PolicyEvaluation"];
/** What has changed in the choices and their success. */
export type Alerts = Schemas["Alerts"];
/** A proportion with its Wilson interval. */
export type Rate = Schemas["Rate"];
/** The result of one record of many, with either `revision` or `error`. */
export type LineResult = Schemas["LineResult"];
/** The error object of an error response. */
export type ErrorObject = Schemas["ErrorObject"];
/** One problem of a request: its path, its type and a message. */
export type ErrorProblem = Schemas["ErrorProblem"];
/** The result of deleting one id: what was removed from which tier. */
export type DeletedTrajectory = Schemas["DeletedTrajectory"];
/** The result of deleting many. Repeat the call while `has_more` is true. */
export type DeletedTrajectories = Schemas["DeletedTrajectories"];
/** The result of a dry run of a deletion, with the token for the deletion. */
export type MatchingTrajectories = Schemas["MatchingTrajectories"];

/** Filters, as the query parameters of the API. */
export type Filters = Parameters<Omit<Query<"stats">, "credit" | "bucket">>;
/** Filters of stats, with `credit` (the rule of `credited_success_rate`) and `bucket` (`day` or `week`, for `series`). */
export type StatsParameters = Parameters<Query<"stats">>;
/** Filters of a list, with `limit` (records per page, 1 to 1,000) and `cursor` (start of the page). */
export type ListParameters = Parameters<Query<"list">>;
/**
 * Filters of readiness, with `max_runs`: how many of the newest runs to measure at most, 1 to
 * 1,000,000. A request measures up to 750; `note` in the answer says how to measure all.
 */
export type ReadinessParameters = Parameters<Query<"readiness">>;
/** Filters of an export, with `after`: the id after which it starts. The SDK requests the end line itself. */
export type ExportParameters = Filters & Parameters<Pick<Query<"export">, "after">>;
/** Filters of a deletion, at least one, with the `token` of the dry run. */
export type DeleteParameters = Parameters<Omit<Query<"delete_matching">, "dry_run">>;

/** Options of every call. */
export interface RequestOptions {
  /** Aborts the call with the reason of the signal. */
  signal?: AbortSignal | undefined;
}

/** The results of many records. */
export interface RecordedMany {
  /** Number of accepted records. */
  accepted: number;
  /** Number of records that the server refused or that are not serializable as JSON. */
  refused: number;
  /** One result per record, in the given order. `line` counts all records from 1. */
  results: LineResult[];
}

/** Summary of a complete export. */
export interface Exported {
  /** Number of records. */
  count: number;
  /** SHA-256 of all lines, newlines included, in hex. */
  sha256: string;
  /** The `after` for a later export that continues this one; null if nothing was exported. */
  cursor: string | null;
}

/** Progress of an export. */
export interface ExportProgress {
  /** Number of records so far. */
  count: number;
  /** Number of bytes so far. */
  bytes: number;
  /** How often the export was resumed after a broken connection. */
  resumed: number;
}
