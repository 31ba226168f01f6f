/** What goes over the wire, by name. Every one is out of `openapi.ts`, which is generated; fields are as on the wire. */
import type { components, operations } from "./openapi.js";

type Schemas = components["schemas"];
type Query<Name extends keyof operations> = NonNullable<
  "query" extends keyof operations[Name]["parameters"] ? operations[Name]["parameters"]["query"] : never
>;
type Times = "since" | "until" | "started_since" | "started_until";
/** A time may be a `Date` beside the text that the server takes; what is undefined is left out. */
type Parameters<Given> = { [Name in keyof Given]: (Name extends Times ? Given[Name] | Date : Given[Name]) | undefined };

/** One run of a multi-phase workflow, as it is sent. */
export type Trajectory = Schemas["Trajectory"];
/** One phase of a run, in the order in which they ran; a name may repeat. */
export type Phase = Schemas["Phase"];
/** A model that could have been picked for a phase. */
export type Candidate = Schemas["Candidate"];
/** A later phase sent work back to an earlier one. */
export type FeedbackLoop = Schemas["FeedbackLoop"];
/** How a run ended. */
export type Outcome = NonNullable<Trajectory["outcome"]>;
/** How a phase ended. */
export type PhaseOutcome = NonNullable<Phase["outcome"]>;

/** A trajectory as stored: what was sent, with `recorded_at` and `revision`. What was not given is absent. */
export type StoredTrajectory = Schemas["StoredTrajectory"];
/** A page of the list, newest first. `complete` is false where a part of the server that it needs was away. */
export type TrajectoryPage = Schemas["TrajectoryPage"];
/** Totals and groups of all matching trajectories. Unknown is null, never 0. */
export type Stats = Schemas["Stats"];
/** A proportion with its Wilson interval. */
export type Rate = Schemas["Rate"];
/** What became of one record of many: it has either `revision` or `error`. */
export type LineResult = Schemas["LineResult"];
/** The inside of an error. */
export type ErrorObject = Schemas["ErrorObject"];
/** One thing wrong with what was sent: where, by which rule, and a sentence. */
export type ErrorProblem = Schemas["ErrorProblem"];
/** One id is deleted, and what was removed where. */
export type DeletedTrajectory = Schemas["DeletedTrajectory"];
/** Many are deleted. With `has_more`, the same call goes on. */
export type DeletedTrajectories = Schemas["DeletedTrajectories"];
/** What a dry run of a deletion has found, with the token that deletes it. */
export type MatchingTrajectories = Schemas["MatchingTrajectories"];

/** Which trajectories: the server's query parameters, by the server's names. */
export type Filters = Parameters<Query<"stats">>;
/** Filters of a list, with `limit` (records a page, 1 to 1,000) and `cursor` (where to begin). */
export type ListParameters = Parameters<Query<"list">>;
/** Filters of an export, with `after`: the id behind which it begins. The end line is asked for by the SDK itself. */
export type ExportParameters = Parameters<Omit<Query<"export">, "end">>;
/** Filters of a deletion, at least one, with the `token` of the dry run. */
export type DeleteParameters = Parameters<Omit<Query<"delete_matching">, "dry_run">>;

/** What every call takes. */
export interface RequestOptions {
  /** Ends the call, whatever it is doing, with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** What became of many records. */
export interface RecordedMany {
  /** How many the server has taken. */
  accepted: number;
  /** How many were refused, by the server or because they cannot be written as JSON. */
  refused: number;
  /** One for each record, in the order given; `line` counts from 1 over all of them. */
  results: LineResult[];
}

/** A complete export. */
export interface Exported {
  /** How many records. */
  count: number;
  /** SHA-256 of all lines, newlines included, in hex. */
  sha256: string;
  /** The id to go on behind later, as `after`; null where nothing was exported. */
  cursor: string | null;
}

/** How far an export is. */
export interface ExportProgress {
  /** Records so far. */
  count: number;
  /** Bytes so far. */
  bytes: number;
  /** How often it has gone on after a cut. */
  resumed: number;
}
