/** The recorder. It measures a run while it happens and records it when it ends. */
import { checkNames, ended, type Failure, type Given, runThenEnd, splitArguments, withoutNulls } from "./acting.js";
import { advised, type AdviceOptions, type Ask } from "./advice.js";
import { uuid } from "./ids.js";
import { idOf, type PhaseOptions, RunPhase } from "./phase.js";
import { attemptsOf, carriedOver, type Earlier } from "./resuming.js";
import { microseconds, runTotals, Stopwatch, textOf } from "./totals.js";
import type { FeedbackLoop, LateOutcome, Phase, Trajectory } from "./types.js";

/** The fields that `run.set` accepts. */
export type RunFields = Partial<Omit<Trajectory, "id" | "phases">>;

/** Options of a run. Fields of the record have the names of the API. */
export interface RunOptions
  extends Pick<
    Trajectory,
    | "id"
    | "request_type"
    | "source"
    | "project"
    | "policy"
    | "parent_id"
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

/** Options of a skipped phase. */
export interface SkipOptions extends Pick<Phase, "agent" | "selection_rule" | "keep_probability" | "metadata"> {
  /** The phase that this one is part of, or its `phase_id`. */
  parent?: RunPhase | string | null | undefined;
  /** The `skip_reason` of the record. */
  reason?: string | null | undefined;
}

/** Options of a late outcome of a run. */
export interface OutcomeOptions extends Pick<LateOutcome, "at" | "evidence" | "idempotency_key"> {
  /** The phase that it is about, or its `phase_id`; else the run. */
  phase?: RunPhase | string | null | undefined;
}

/** Options of a feedback loop. */
export interface FeedbackOptions {
  /** The reason of the feedback. */
  reason?: string | null | undefined;
}

// Compiles only if it has exactly the fields of the contract.
const RUN_FIELDS: Record<keyof RunFields, true> = {
  request_summary: true,
  request_type: true,
  source: true,
  project: true,
  policy: true,
  parent_id: true,
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
/** Key in `metadata`: the id of the run that this one resumes, if the store could not be read. */
const RESUMES = "trajectories:resumes";

/** How a run is recorded. */
export interface Recording {
  /** Records the run as it is now. */
  record(trajectory: Trajectory): Promise<void>;
  /** Finds the earlier part of a run with a given id. */
  earlier: Earlier;
  /** Adds a late outcome to the background queue. */
  outcome(outcome: LateOutcome): void;
  /** Asks the store for a recommendation. */
  ask: Ask;
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
  readonly #mayGoOn: boolean;
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
    this.#mayGoOn = Boolean(id) && recording.earlier.mayFind(id!);
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
  phase<T>(name: string, options: PhaseOptions & AdviceOptions, act: (phase: RunPhase) => T | PromiseLike<T>): Promise<T>;
  async phase<T>(name: string, ...given: Given<PhaseOptions & AdviceOptions, RunPhase, T>): Promise<T> {
    const [{ recommend, default: model, ...options }, act] = splitArguments(given);
    const phase = recommend ? await this.#beginAdvised(name, options, { recommend, default: model }) : this.#begin(name, options);
    return runThenEnd(
      () => act(phase),
      (failure) => phase.finish(failure),
    );
  }

  /**
   * Starts a phase and returns it, for code that a callback does not fit. Call its `end`, or declare it with `await using`.
   *
   * ```ts
   * await using phase = run.startPhase("spec", { model: "large" });
   * ```
   */
  startPhase(name: string, options: PhaseOptions = {}): RunPhase {
    return this.#begin(name, options);
  }

  /** Adds a phase that did not run, with the reason. It does not count as an attempt. */
  skip(name: string, { reason, parent, ...given }: SkipOptions = {}): void {
    if (this.#isLate(name)) return;
    const fields = withoutNulls({ ...given, skip_reason: reason, parent_phase_id: idOf(parent) });
    const phase: Phase = { phase_name: name, outcome: "skipped", ...fields };
    this.#phases.push({ fields: () => phase });
  }

  /** Adds a feedback loop: a phase sent work back to an earlier phase now. The phases are names, or the phases themselves. */
  feedback(fromPhase: RunPhase | string, toPhase: RunPhase | string, { reason }: FeedbackOptions = {}): void {
    if (this.#isLate("feedback")) return;
    const at = this.#stopwatch.at(this.#stopwatch.ms());
    const ids = { from_phase_id: idIfPhase(fromPhase), to_phase_id: idIfPhase(toPhase) };
    this.#loops.push(withoutNulls({ from_phase: nameOf(fromPhase), to_phase: nameOf(toPhase), ...ids, reason, at }));
  }

  /**
   * Records a late outcome of this run in the background, also after its end. Never throws; see `client.queue.counters`.
   *
   * `value` is a boolean, a number, or for the name `fit` a word, as for `client.outcomes.record`.
   */
  outcome(name: string, value: LateOutcome["value"], { phase, ...given }: OutcomeOptions = {}): void {
    this.#recording.outcome({ name, value, trajectory_id: this.id, ...withoutNulls({ ...given, phase_id: idOf(phase) }) });
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
    const { outcome, error } = failure ? ended(failure) : { outcome: "success" as const };
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

  /** Begins a phase with the model that the store recommends. What the caller gave stays, but for the candidates. */
  async #beginAdvised(name: string, { candidates, ...options }: PhaseOptions, advice: AdviceOptions): Promise<RunPhase> {
    const { request_type, project } = { ...this.#given, ...this.#overrides };
    const phases = this.#phases.map((phase) => {
      const { phase_name, model, outcome } = phase.fields(() => 0);
      return withoutNulls({ phase_name, model, outcome });
    });
    const known = withoutNulls({ request_type, project, phases });
    const [answer, fields] = await advised(this.#recording.ask, name, candidates, advice, known);
    const metadata = { ...fields.metadata, ...options.metadata };
    const phase = this.#begin(name, { ...fields, ...withoutNulls(options), ...(Object.keys(metadata).length > 0 && { metadata }) } as PhaseOptions);
    phase.recommendation = answer;
    return phase;
  }

  #begin(name: string, options: PhaseOptions): RunPhase {
    const attempt = (this.#attempts.get(name) ?? 0) + 1;
    const phase = new RunPhase(name, options, attempt, {
      stopwatch: this.#stopwatch,
      mayGoOn: this.#mayGoOn,
      isLate: (what) => this.#isLate(what),
      phaseEnded: async () => {
        if (this.#recording.isProgressive) await this.#record();
      },
    });
    this.#attempts.set(name, attempt);
    if (!this.#isLate(name)) this.#phases.push(phase);
    return phase;
  }

  #isLate(what: string): boolean {
    if (this.#ending) console.warn(`trajectories-sdk: run ${this.id} has ended, so this was not recorded: ${what}`);
    return this.#ending !== null;
  }
}

function nameOf(phase: RunPhase | string): string {
  return phase instanceof RunPhase ? phase.name : phase;
}

function idIfPhase(phase: RunPhase | string): string | null {
  return phase instanceof RunPhase ? phase.id : null;
}
