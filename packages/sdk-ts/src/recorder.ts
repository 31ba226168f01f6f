/** The recorder. It measures a run while it happens and records it when it ends. */
import { attemptsOf, carriedOver, type Earlier } from "./resuming.js";
import { DecimalSum } from "./decimals.js";
import { uuid } from "./ids.js";
import { isAmount, microseconds, outcomeOf, runTotals, Stopwatch, textOf } from "./totals.js";
import type { FeedbackLoop, Phase, Trajectory } from "./types.js";

/** The fields that `run.set` accepts. */
export type RunFields = Partial<Omit<Trajectory, "id" | "phases">>;
/** The fields that `phase.set` accepts. */
export type PhaseFields = Omit<Phase, "phase_name">;

/** Options of a run. Fields of the record have the names of the API. */
export interface RunOptions
  extends Pick<
    Trajectory,
    | "id"
    | "request_type"
    | "source"
    | "project"
    | "planned_phases"
    | "session_id"
    | "trace_id"
    | "tags"
    | "external_refs"
    | "metadata"
  > {
  /** True (default): `client.queue` sends the record and never throws. False: the run is recorded at its end, and errors are thrown. */
  background?: boolean | undefined;
  /** Also record the run after each phase, under the same id. After a crash, the finished phases are stored. */
  progress?: boolean | undefined;
  /**
   * Go on from what the store has of the run `id`, for example after a pause in another process. If the store cannot be read, a run
   * in the background gets another id, and `metadata["trajectories:resumes"]` has the first one.
   *
   * A run of the same client that was paused or aborted goes on under its id without this option.
   */
  resume?: boolean | undefined;
}

/** Options of a phase. */
export type PhaseOptions = Pick<
  Phase,
  | "agent"
  | "model"
  | "requested_model"
  | "model_selection_method"
  | "candidates"
  | "selection_probability"
  | "attempt"
  | "metadata"
>;

/** Options of a skipped phase. */
export interface SkipOptions extends Pick<Phase, "agent" | "metadata"> {
  /** The `skip_reason` of the record. */
  reason?: string | null | undefined;
}

/** Options of a feedback loop. */
export interface FeedbackOptions {
  /** The reason of the feedback. */
  reason?: string | null | undefined;
}

/** Usage of a call to a model. Values that are missing, null or invalid stay unknown. */
export type Usage = Pick<
  Phase,
  "input_tokens" | "output_tokens" | "cached_input_tokens" | "reasoning_tokens" | "cost_usd"
>;

const USAGE = ["input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd"] as const;

// Compiles only if it has exactly the fields of the contract.
const RUN_FIELDS: Record<keyof RunFields, true> = {
  request_summary: true,
  request_type: true,
  source: true,
  project: true,
  outcome: true,
  total_cost_usd: true,
  total_duration_ms: true,
  total_phases: true,
  phases_skipped: true,
  build_passed: true,
  tests_passed: true,
  review_findings: true,
  critical_findings: true,
  files_changed: true,
  planned_phases: true,
  feedback_loops: true,
  error: true,
  started_at: true,
  ended_at: true,
  session_id: true,
  trace_id: true,
  tags: true,
  external_refs: true,
  metadata: true,
};
const PHASE_FIELDS: Record<keyof PhaseFields, true> = {
  agent: true,
  model: true,
  requested_model: true,
  model_selection_method: true,
  candidates: true,
  selection_probability: true,
  tools_used: true,
  steps_taken: true,
  input_tokens: true,
  output_tokens: true,
  cached_input_tokens: true,
  reasoning_tokens: true,
  cost_usd: true,
  duration_ms: true,
  outcome: true,
  skip_reason: true,
  attempt: true,
  error: true,
  started_at: true,
  metadata: true,
};

/** Key in `metadata`: the id of the run that this one resumes, if the store could not be read. */
const RESUMES = "trajectories:resumes";

/** A running phase. */
export class RunPhase {
  /** The name of the phase. */
  readonly name: string;
  readonly #stopwatch: Stopwatch;
  readonly #startedMs: number;
  readonly #measured: PhaseFields;
  readonly #given: PhaseFields;
  readonly #overrides: PhaseFields = {};
  readonly #usage = new Map<keyof Usage, DecimalSum>();
  readonly #tools = new Set<string>();
  #steps: number | null = null;

  /** @internal */
  constructor(name: string, given: PhaseOptions, attempt: number, stopwatch: Stopwatch) {
    checkNames(given, PHASE_FIELDS);
    this.name = name;
    this.#given = withoutNulls(given);
    this.#stopwatch = stopwatch;
    this.#startedMs = stopwatch.ms();
    this.#measured = { attempt, started_at: stopwatch.at(this.#startedMs) };
  }

  /**
   * Sets fields of the record. They override measured and computed values. Null means unknown.
   *
   * @throws TypeError: the contract does not have a field of this name.
   */
  set(fields: PhaseFields): void {
    checkNames(fields, PHASE_FIELDS);
    Object.assign(this.#overrides, fields);
  }

  /** Adds the usage of one call to the phase. Costs add up exactly. Values never given stay unknown, not 0. */
  usage(used: Usage): void {
    for (const name of USAGE) {
      const value = used[name];
      if (value === undefined || value === null) continue;
      if (!isAmount(name, value)) {
        // An invalid price must not stop a pipeline.
        console.warn(`trajectories-sdk: ${name} of phase ${JSON.stringify(this.name)} is not a valid amount and was ignored: ${textOf(value)}`);
        continue;
      }
      const sum = this.#usage.get(name) ?? new DecimalSum();
      sum.add(value);
      this.#usage.set(name, sum);
    }
  }

  /** Adds a used tool. Each name is listed once, in order of first use. */
  tool(name: string): void {
    this.#tools.add(name);
  }

  /** Adds to the number of steps. */
  step(count = 1): void {
    this.#steps = (this.#steps ?? 0) + count;
  }

  /** Sets `model` to the model that answers instead. The previous one becomes `requested_model`, unless that is set. */
  fallBackTo(model: string): void {
    const { requested_model, model: before } = { ...this.#given, ...this.#overrides };
    if (!requested_model && before) this.#overrides.requested_model = before;
    this.#overrides.model = model;
  }

  /** Marks the phase as failed without throwing. */
  fail(error: unknown): void {
    this.set({ outcome: "failure", error: textOf(error) });
  }

  /** @internal */
  end(failure: Failure | null): void {
    this.#measured.duration_ms = microseconds(this.#stopwatch.ms() - this.#startedMs);
    Object.assign(this.#measured, { outcome: "success" }, failure && ended(failure));
  }

  /** @internal The fields so far. A running phase has no duration and no outcome yet. `before` counts attempts of an earlier part. */
  fields(before: (name: string) => number): Phase {
    const attempt = (this.#measured.attempt ?? 0) + before(this.name);
    const sums = Object.fromEntries([...this.#usage].map(([name, sum]) => [name, sum.toNumber()]));
    const tools = this.#tools.size > 0 ? [...this.#tools] : null;
    const added = withoutNulls({ tools_used: tools, steps_taken: this.#steps });
    return { phase_name: this.name, ...this.#measured, attempt, ...sums, ...added, ...this.#given, ...this.#overrides };
  }
}

/** How a run is recorded. */
export interface Recording {
  /** Records the run as it is now. */
  record(trajectory: Trajectory): Promise<void>;
  /** Finds the earlier part of a run with a given id. */
  earlier: Earlier;
  /** Whether an error of the store is only logged. */
  isBackground: boolean;
  /** Whether to record after each phase. */
  isProgressive: boolean;
}

/**
 * A run with its phases, in the order in which they started.
 *
 * The handle of `client.trajectories.start` ends by `end`, or by `await using`.
 */
export class Run implements AsyncDisposable {
  #id: string;
  readonly #recording: Recording;
  readonly #stopwatch = new Stopwatch();
  readonly #given: RunFields & Pick<Trajectory, "request_summary">;
  readonly #overrides: RunFields = {};
  readonly #phases: { fields(before: (name: string) => number): Phase }[] = [];
  #earlier: Promise<Trajectory | null>;
  readonly #attempts = new Map<string, number>();
  readonly #loops: FeedbackLoop[] = [];
  #recorded: Promise<void> = Promise.resolve();
  #ending: RunFields | null = null;

  /** @internal */
  constructor(summary: string, options: RunOptions, recording: Recording) {
    const { id, background: _background, progress: _progress, resume: _resume, ...given } = options;
    checkNames(given, RUN_FIELDS);
    this.#id = id ?? uuid();
    this.#earlier = id ? recording.earlier.find(id) : Promise.resolve(null);
    // Handled when the run is recorded.
    this.#earlier.catch(() => {});
    this.#given = { request_summary: summary, ...withoutNulls(given) };
    this.#recording = recording;
  }

  /** The id of the record. */
  get id(): string {
    return this.#id;
  }

  /**
   * Runs `act` as a phase and measures its duration. An error thrown by `act` marks the phase as failed and is rethrown.
   *
   * @returns the result of `act`.
   */
  phase<T>(name: string, act: (phase: RunPhase) => T | PromiseLike<T>): Promise<T>;
  phase<T>(name: string, options: PhaseOptions, act: (phase: RunPhase) => T | PromiseLike<T>): Promise<T>;
  async phase<T>(name: string, ...given: Given<PhaseOptions, RunPhase, T>): Promise<T> {
    const [options, act] = splitArguments(given);
    const phase = this.#begin(name, options);
    return runThenEnd(
      () => act(phase),
      async (failure) => {
        if (this.#isLate(`the end of ${name}`)) return;
        phase.end(failure);
        if (this.#recording.isProgressive) await this.#record();
      },
    );
  }

  /** Adds a phase that did not run, with the reason. It does not count as an attempt. */
  skip(name: string, { reason, agent, metadata }: SkipOptions = {}): void {
    if (this.#isLate(name)) return;
    const phase: Phase = { phase_name: name, outcome: "skipped", ...withoutNulls({ agent, metadata, skip_reason: reason }) };
    this.#phases.push({ fields: () => phase });
  }

  /** Adds a feedback loop: a phase sent work back to an earlier phase now. */
  feedback(fromPhase: string, toPhase: string, { reason }: FeedbackOptions = {}): void {
    if (this.#isLate("feedback")) return;
    const at = this.#stopwatch.at(this.#stopwatch.ms());
    this.#loops.push(withoutNulls({ from_phase: fromPhase, to_phase: toPhase, reason, at }));
  }

  /**
   * Sets fields of the record. They override measured and computed values. Null means unknown.
   *
   * @throws TypeError: the contract does not have a field of this name.
   */
  set(fields: RunFields): void {
    checkNames(fields, RUN_FIELDS);
    if (!this.#isLate("set")) Object.assign(this.#overrides, fields);
  }

  /**
   * Ends and records the run. An error marks the run as failed. Calling it again does nothing.
   *
   * It throws only if the run is recorded with `background: false` and that fails.
   */
  async end(error?: unknown): Promise<void> {
    await this.finish(error === undefined ? null : { thrown: error });
  }

  /** Calls {@link Run.end}, for `await using`. It does not see an error that is thrown; a failed phase still marks the run as failed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  /** @internal */
  async finish(failure: Failure | null): Promise<void> {
    if (this.#ending) return;
    const ms = this.#stopwatch.ms();
    const { outcome, error } = failure ? ended(failure) : { outcome: "success" };
    // Without a failure the store derives the outcome. A run that was aborted, or goes on later, has not failed.
    const failed: RunFields = outcome === "success" ? {} : withoutNulls({ outcome: outcome === "failure" ? outcome : "unknown", error });
    this.#ending = { ended_at: this.#stopwatch.at(ms), total_duration_ms: ms, ...failed };
    await this.#record();
  }

  /** Records versions one after the other, because the last one replaces the earlier ones. */
  #record(): Promise<void> {
    const recorded = this.#recorded.then(async () => this.#recording.record(this.#fields(await this.#found())));
    this.#recorded = recorded.catch(() => {});
    return recorded;
  }

  /** Returns the earlier part of the run. If it cannot be read, the rest gets an id of its own, since it would replace that part. */
  async #found(): Promise<Trajectory | null> {
    try {
      return await this.#earlier;
    } catch (error) {
      if (!this.#recording.isBackground) throw error;
      const resumes = this.#id;
      this.#id = uuid();
      this.#given.metadata = { ...this.#given.metadata, [RESUMES]: resumes };
      this.#earlier = Promise.resolve(null);
      console.warn(`trajectories-sdk: run ${resumes} is recorded as ${this.#id} from here on, because its start cannot be read: ${textOf(error)}`);
      return null;
    }
  }

  #fields(earlier: Trajectory | null): Trajectory {
    const before = earlier?.phases ?? [];
    const phases = [...before, ...this.#phases.map((phase) => phase.fields((name) => attemptsOf(before, name)))];
    const loops = [...(earlier?.feedback_loops ?? []), ...this.#loops];
    const kept = earlier ? carriedOver(earlier) : {};
    const record = this.#recordOf(phases, loops, kept, earlier?.total_duration_ms ?? 0);
    if (kept.metadata && record.metadata) record.metadata = { ...kept.metadata, ...record.metadata };
    if (this.#ending) this.#recording.earlier.remember(record);
    return record;
  }

  #recordOf(phases: Phase[], loops: FeedbackLoop[], kept: Partial<Trajectory>, earlierMs: number): Trajectory {
    const ending = this.#ending && { ...this.#ending, total_duration_ms: microseconds(earlierMs + (this.#ending.total_duration_ms ?? 0)) };
    return {
      id: this.id,
      started_at: this.#stopwatch.at(0),
      ...kept,
      ...(loops.length > 0 && { feedback_loops: loops }),
      // Without "unknown", the server would derive success for a run that is still going or was killed.
      ...(ending ? { ...runTotals(phases), ...ending } : { outcome: "unknown" as const }),
      ...this.#given,
      phases,
      ...this.#overrides,
    };
  }

  #begin(name: string, options: PhaseOptions): RunPhase {
    const attempt = (this.#attempts.get(name) ?? 0) + 1;
    const phase = new RunPhase(name, options, attempt, this.#stopwatch);
    this.#attempts.set(name, attempt);
    if (!this.#isLate(name)) this.#phases.push(phase);
    return phase;
  }

  #isLate(what: string): boolean {
    if (this.#ending) console.warn(`trajectories-sdk: run ${this.id} has ended, so this was not recorded: ${what}`);
    return this.#ending !== null;
  }
}

function ended({ thrown }: Failure): { outcome: ReturnType<typeof outcomeOf>; error?: string } {
  const outcome = outcomeOf(thrown);
  // A pause is no error, and neither is a jump to another graph.
  return outcome === "failure" || outcome === "cancelled" ? { outcome, error: textOf(thrown) } : { outcome };
}

/** A thrown value, of any type. */
export interface Failure {
  thrown: unknown;
}

/** Returns the result of `act` after calling `end`. Rethrows an error of `act`, even if `end` fails too. */
export async function runThenEnd<T>(
  act: () => T | PromiseLike<T>,
  end: (failure: Failure | null) => Promise<void>,
): Promise<T> {
  let value: T;
  try {
    value = await act();
  } catch (thrown) {
    await end({ thrown }).catch((error: unknown) => {
      console.warn(`trajectories-sdk: a failed run could not be recorded: ${textOf(error)}`);
    });
    throw thrown;
  }
  await end(null);
  return value;
}

/** Arguments with optional options and a function. */
export type Given<Options, Subject, T> =
  | [act: (subject: Subject) => T | PromiseLike<T>]
  | [options: Options, act: (subject: Subject) => T | PromiseLike<T>];

export function splitArguments<Options extends object, Subject, T>(
  given: Given<Options, Subject, T>,
): [Partial<Options>, (subject: Subject) => T | PromiseLike<T>] {
  return given.length === 1 ? [{}, given[0]] : given;
}

function withoutNulls<Fields extends object>(fields: Fields): { [Name in keyof Fields]: NonNullable<Fields[Name]> } {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(given) as { [Name in keyof Fields]: NonNullable<Fields[Name]> };
}

function checkNames(fields: object, names: object): void {
  const unknown = Object.keys(fields).find((name) => !Object.hasOwn(names, name));
  if (unknown !== undefined) throw new TypeError(`Unknown field ${JSON.stringify(unknown)}. Put your own data into metadata.`);
}
