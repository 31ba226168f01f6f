/** Phases of a recorded run, and the attempts of models in them. */
import { checkNames, ended, type Failure, runThenEnd, withoutNulls } from "./acting.js";
import { DecimalSum } from "./decimals.js";
import { uuid } from "./ids.js";
import { isAmount, microseconds, type Stopwatch, textOf } from "./totals.js";
import type { Attempt, Phase, Recommendation } from "./types.js";

/** The fields that `phase.set` accepts. */
export type PhaseFields = Omit<Phase, "phase_name">;

/** Options of a phase. */
export interface PhaseOptions
  extends Pick<
    Phase,
    | "phase_id"
    | "agent"
    | "model"
    | "requested_model"
    | "model_selection_method"
    | "selection_rule"
    | "reasoning_effort"
    | "candidates"
    | "selection_probability"
    | "exploration"
    | "keep_probability"
    | "attempt"
    | "metadata"
  > {
  /** The phase that this one is part of, or its `phase_id`. */
  parent?: RunPhase | string | null | undefined;
  /** The phases that had to end before this one, or their ids. */
  depends_on?: readonly (RunPhase | string)[] | null | undefined;
}

/** Usage of a call to a model. Values that are missing, null or invalid stay unknown. */
export type Usage = Pick<Phase, (typeof USAGE)[number]>;

/** An attempt as it was. */
export type AttemptFields = Omit<Attempt, "model" | "error"> & { error?: unknown };
/** Options of an attempt that is measured. */
export type AttemptOptions = Pick<Attempt, "reason">;

const USAGE = [
  "input_tokens",
  "output_tokens",
  "cached_input_tokens",
  "cache_write_input_tokens",
  "reasoning_tokens",
  "cost_usd",
] as const;

// Compiles only if it has exactly the fields of the contract.
const PHASE_FIELDS: Record<keyof PhaseFields, true> = {
  phase_id: true,
  parent_phase_id: true,
  depends_on: true,
  agent: true,
  model: true,
  requested_model: true,
  model_selection_method: true,
  selection_rule: true,
  reasoning_effort: true,
  candidates: true,
  selection_probability: true,
  exploration: true,
  keep_probability: true,
  attempts: true,
  tools_used: true,
  steps_taken: true,
  input_tokens: true,
  output_tokens: true,
  cached_input_tokens: true,
  cache_write_input_tokens: true,
  reasoning_tokens: true,
  cost_usd: true,
  duration_ms: true,
  outcome: true,
  status_reason: true,
  skip_reason: true,
  fit: true,
  evidence: true,
  attempt: true,
  error: true,
  started_at: true,
  ended_at: true,
  metadata: true,
};

/** What a phase needs of its run. */
export interface PhaseOwner {
  readonly stopwatch: Stopwatch;
  /** Whether the run may have phases of an earlier part, whose ids are not known yet. */
  readonly mayGoOn: boolean;
  /** Whether the run has ended; logs that something is not recorded. */
  isLate(what: string): boolean;
  /** Records the run if it has `progress`. */
  phaseEnded(): Promise<void>;
}

/** A running phase. The handle of `run.startPhase` ends by `end`, or by `await using`. */
export class RunPhase implements AsyncDisposable {
  /** The name of the phase. */
  readonly name: string;
  /** The answer of the store, with `recommend`; null without an answer. */
  recommendation: Recommendation | null = null;
  readonly #run: PhaseOwner;
  readonly #startedMs: number;
  readonly #attempt: number;
  readonly #measured: PhaseFields;
  readonly #given: PhaseFields;
  readonly #overrides: PhaseFields = {};
  readonly #usage = new Map<keyof Usage, DecimalSum>();
  readonly #tools = new Set<string>();
  readonly #attempts: PhaseAttempt[] = [];
  #steps: number | null = null;
  #isEnded = false;

  /** @internal */
  constructor(name: string, { parent, depends_on, ...given }: PhaseOptions, attempt: number, run: PhaseOwner) {
    checkNames(given, PHASE_FIELDS);
    this.name = name;
    this.#given = withoutNulls({ ...given, parent_phase_id: idOf(parent), depends_on: depends_on?.map((one) => idOf(one)!) });
    this.#run = run;
    this.#attempt = attempt;
    this.#startedMs = run.stopwatch.ms();
    this.#measured = { attempt, started_at: run.stopwatch.at(this.#startedMs) };
  }

  /**
   * The `phase_id`, unique in the run. It is recorded once it was read, also as a `parent`, in `depends_on` and by `feedback`.
   *
   * The default is the name and the count of the phases of this name, such as `implement-2`; in a run that goes on, a UUID is added.
   */
  get id(): string {
    const given = this.#overrides.phase_id ?? this.#given.phase_id;
    return (this.#overrides.phase_id = given ?? `${this.name}-${this.#attempt}${this.#run.mayGoOn ? `-${uuid()}` : ""}`);
  }

  /** The model that answers, by what was given, recommended or set so far. */
  get model(): string | null {
    return this.#overrides.model ?? this.#given.model ?? null;
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

  /**
   * Records an attempt of a model; a later attempt with another model is a fallback. The `model` of the phase becomes that of the last
   * attempt, `requested_model` the first one.
   *
   * With fields, the attempt is recorded as they say; its cost is added to the phase, as by `usage`. With a function, it is run and
   * measured, and an error that it throws marks the attempt as failed and is rethrown.
   *
   * @returns the result of `act`.
   */
  attempt(model: string, fields: AttemptFields): void;
  attempt<T>(model: string, act: (attempt: PhaseAttempt) => T | PromiseLike<T>): Promise<T>;
  attempt<T>(model: string, options: AttemptOptions, act: (attempt: PhaseAttempt) => T | PromiseLike<T>): Promise<T>;
  attempt<T>(
    model: string,
    given: AttemptFields | AttemptOptions | ((attempt: PhaseAttempt) => T | PromiseLike<T>),
    act?: (attempt: PhaseAttempt) => T | PromiseLike<T>,
  ): void | Promise<T> {
    const body = typeof given === "function" ? given : act;
    const fields = typeof given === "function" ? {} : given;
    const attempt = new PhaseAttempt(model, fields, (used) => this.usage(used));
    this.#attempts.push(attempt);
    if ({ ...this.#given, ...this.#overrides }.model !== model) this.fallBackTo(model);
    if (!body) return;
    const startedMs = this.#run.stopwatch.ms();
    return runThenEnd(
      () => body(attempt),
      async (failure) => attempt.finish(failure, microseconds(this.#run.stopwatch.ms() - startedMs)),
    );
  }

  /** Marks the phase as failed without throwing. */
  fail(error: unknown): void {
    this.set({ outcome: "failure", error: textOf(error) });
  }

  /**
   * Ends the phase. An error marks it as failed. Calling it again does nothing.
   *
   * It throws only if the run has `progress`, is recorded with `background: false`, and that fails.
   */
  async end(error?: unknown): Promise<void> {
    await this.finish(error === undefined ? null : { thrown: error });
  }

  /** Calls {@link RunPhase.end}, for `await using`. It does not see an error that is thrown: pass that to `end` or `fail`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  /** @internal */
  async finish(failure: Failure | null): Promise<void> {
    if (this.#isEnded || this.#run.isLate(`the end of ${this.name}`)) return;
    this.#isEnded = true;
    this.#measured.duration_ms = microseconds(this.#run.stopwatch.ms() - this.#startedMs);
    Object.assign(this.#measured, { outcome: "success" }, failure && ended(failure));
    await this.#run.phaseEnded();
  }

  /** @internal The fields so far. A running phase has no duration and no outcome yet. `before` counts attempts of an earlier part. */
  fields(before: (name: string) => number): Phase {
    const attempt = this.#attempt + before(this.name);
    const sums = Object.fromEntries([...this.#usage].map(([name, sum]) => [name, sum.toNumber()]));
    const tools = this.#tools.size > 0 ? [...this.#tools] : null;
    const attempts = this.#attempts.length > 0 ? this.#attempts.map((one) => one.fields()) : null;
    const added = withoutNulls({ tools_used: tools, steps_taken: this.#steps, attempts });
    return { phase_name: this.name, ...this.#measured, attempt, ...sums, ...added, ...this.#given, ...this.#overrides };
  }
}

/** One attempt of a phase. */
export class PhaseAttempt {
  /** The model of the attempt. */
  readonly model: string;
  readonly #given: Partial<AttemptFields>;
  readonly #use: (used: Usage) => void;
  readonly #cost = new DecimalSum();
  #hasCost = false;
  #measured: Partial<Attempt> = {};
  #failed: Partial<Attempt> = {};

  /** @internal */
  constructor(model: string, { cost_usd, ...given }: Partial<AttemptFields>, use: (used: Usage) => void) {
    this.model = model;
    this.#given = { ...given, ...(given.error != null && { error: textOf(given.error) }) };
    this.#use = use;
    this.usage({ cost_usd: cost_usd ?? null });
  }

  /** Adds the usage of one call to the phase, and its cost to this attempt too. */
  usage(used: Usage): void {
    this.#use(used);
    if (!isAmount("cost_usd", used.cost_usd)) return;
    this.#cost.add(used.cost_usd);
    this.#hasCost = true;
  }

  /** Marks the attempt as failed without throwing. */
  fail(error: unknown): void {
    this.#failed = { outcome: "failure", error: textOf(error) };
  }

  /** @internal */
  finish(failure: Failure | null, ms: number): void {
    const { outcome, error } = failure ? ended(failure) : { outcome: "success" as const };
    this.#measured = { duration_ms: ms, outcome, error: error ?? null };
  }

  /** @internal The fields so far. An attempt that is under way has no outcome yet. */
  fields(): Attempt {
    const cost_usd = this.#hasCost ? this.#cost.toNumber() : null;
    const given = withoutNulls({ ...this.#measured, cost_usd, ...this.#given, ...this.#failed }) as Omit<Attempt, "model" | "outcome">;
    return { model: this.model, outcome: "unknown", ...given };
  }
}

/** Returns the id of a phase. */
export function idOf(phase: RunPhase | string | null | undefined): string | null | undefined {
  return phase instanceof RunPhase ? phase.id : phase;
}
