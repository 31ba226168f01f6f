/** The recorder: a run is measured while it happens, and recorded when it ends. */
import { DecimalSum } from "./decimals.js";
import { uuid } from "./ids.js";
import { isAmount, microseconds, Stopwatch, textOf } from "./measures.js";
import type { FeedbackLoop, Phase, Trajectory } from "./types.js";

/** What `run.set` takes. */
export type RunFields = Partial<Omit<Trajectory, "id" | "phases">>;
/** What `phase.set` takes. */
export type PhaseFields = Omit<Phase, "phase_name">;

/** What is known of a run when it begins. Fields of the record have the names of the wire. */
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
  /** The record goes to `client.queue`, which never throws; true by default. Else it is recorded at the end, and errors are thrown. */
  background?: boolean | undefined;
  /** Record what has been done after each phase too, under the same id: a crash then leaves it. */
  progress?: boolean | undefined;
}

/** What is known of a phase when it begins. */
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

/** What is said of a phase that did not run. */
export interface SkipOptions extends Pick<Phase, "agent" | "metadata"> {
  /** Why: `skip_reason` of the record. */
  reason?: string | null | undefined;
}

/** What is said of work that was sent back. */
export interface FeedbackOptions {
  /** Why. */
  reason?: string | null | undefined;
}

/** What a call to a model has used. What is left out, null or no amount stays unknown. */
export type Usage = Pick<
  Phase,
  "input_tokens" | "output_tokens" | "cached_input_tokens" | "reasoning_tokens" | "cost_usd"
>;

const USAGE = ["input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd"] as const;

// Each name once, and none that the contract does not have: else this does not compile.
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

/** A phase that runs. */
export class RunPhase {
  /** Its name, as given. */
  readonly name: string;
  readonly #stopwatch: Stopwatch;
  readonly #beganMs: number;
  readonly #measured: PhaseFields;
  readonly #given: PhaseFields;
  readonly #said: PhaseFields = {};
  readonly #usage = new Map<keyof Usage, DecimalSum>();
  readonly #tools = new Set<string>();
  #steps: number | null = null;

  /** @internal */
  constructor(name: string, given: PhaseOptions, attempt: number, stopwatch: Stopwatch) {
    checkNames(given, PHASE_FIELDS);
    this.name = name;
    this.#given = known(given);
    this.#stopwatch = stopwatch;
    this.#beganMs = stopwatch.ms();
    this.#measured = { attempt, started_at: stopwatch.at(this.#beganMs) };
  }

  /**
   * Says fields of the record; they stand over what is measured or computed. Null: unknown.
   *
   * @throws TypeError: the contract has no such field.
   */
  set(fields: PhaseFields): void {
    checkNames(fields, PHASE_FIELDS);
    Object.assign(this.#said, fields);
  }

  /** Adds what a call has used to what others have; costs exactly. What nobody says stays unknown, never 0. */
  usage(used: Usage): void {
    for (const name of USAGE) {
      const value = used[name];
      if (value === undefined || value === null) continue;
      if (!isAmount(name, value)) {
        // A price that comes out as NaN is no reason to stop a pipeline.
        console.warn(`trajectory-sdk: ${name} of phase ${JSON.stringify(this.name)} is no amount: ${String(value)}`);
        continue;
      }
      const sum = this.#usage.get(name) ?? new DecimalSum();
      sum.add(value);
      this.#usage.set(name, sum);
    }
  }

  /** Notes that a tool was used: each name once, in order of first use. */
  tool(name: string): void {
    this.#tools.add(name);
  }

  /** Counts steps. */
  step(count = 1): void {
    this.#steps = (this.#steps ?? 0) + count;
  }

  /** Another model answers: the one asked for first becomes `requested_model`, if that is not said, and this one `model`. */
  fallBackTo(model: string): void {
    const { requested_model, model: before } = { ...this.#given, ...this.#said };
    if (!requested_model && before) this.#said.requested_model = before;
    this.#said.model = model;
  }

  /** The phase has failed, though nothing is thrown. */
  fail(error: unknown): void {
    this.set({ outcome: "failure", error: textOf(error) });
  }

  /** @internal */
  end(failure: Failure | null): void {
    this.#measured.duration_ms = microseconds(this.#stopwatch.ms() - this.#beganMs);
    this.#measured.outcome = failure ? "failure" : "success";
    if (failure) this.#measured.error = textOf(failure.thrown);
  }

  /** @internal As of now: of a phase that has not ended, duration and outcome are not known. */
  fields(): Phase {
    const sums = Object.fromEntries([...this.#usage].map(([name, sum]) => [name, sum.toNumber()]));
    const tools = this.#tools.size > 0 ? [...this.#tools] : null;
    const added = known({ tools_used: tools, steps_taken: this.#steps });
    return { phase_name: this.name, ...this.#measured, ...sums, ...added, ...this.#given, ...this.#said };
  }
}

/** What a run does with its record. */
export interface Recording {
  /** Takes it as far as it is. */
  record(trajectory: Trajectory): Promise<void>;
  /** Whether to do so after each phase. */
  isProgressive: boolean;
}

/** A run: its phases, in the order in which they began. */
export class Run {
  /** Under which it is recorded. */
  readonly id: string;
  readonly #recording: Recording;
  readonly #stopwatch = new Stopwatch();
  readonly #given: RunFields & Pick<Trajectory, "request_summary">;
  readonly #said: RunFields = {};
  readonly #phases: { fields(): Phase }[] = [];
  readonly #attempts = new Map<string, number>();
  readonly #loops: FeedbackLoop[] = [];
  #recorded: Promise<void> = Promise.resolve();
  #ending: RunFields | null = null;

  /** @internal */
  constructor(summary: string, options: RunOptions, recording: Recording) {
    const { id, background: _background, progress: _progress, ...given } = options;
    checkNames(given, RUN_FIELDS);
    this.id = id ?? uuid();
    this.#given = { request_summary: summary, ...known(given) };
    this.#recording = recording;
  }

  /**
   * Runs `act` as a phase and times it. What it throws makes the phase a failure with that error, and goes through.
   *
   * @returns what `act` returns.
   */
  phase<T>(name: string, act: (phase: RunPhase) => T | PromiseLike<T>): Promise<T>;
  phase<T>(name: string, options: PhaseOptions, act: (phase: RunPhase) => T | PromiseLike<T>): Promise<T>;
  async phase<T>(name: string, ...given: Given<PhaseOptions, RunPhase, T>): Promise<T> {
    const [options, act] = separated(given);
    const phase = this.#begin(name, options);
    return endedAfter(
      () => act(phase),
      async (failure) => {
        if (this.#isLate(`the end of ${name}`)) return;
        phase.end(failure);
        if (this.#recording.isProgressive) await this.#record();
      },
    );
  }

  /** Notes a phase that did not run, and why. It is no attempt. */
  skip(name: string, { reason, agent, metadata }: SkipOptions = {}): void {
    if (this.#isLate(name)) return;
    const phase: Phase = { phase_name: name, outcome: "skipped", ...known({ agent, metadata, skip_reason: reason }) };
    this.#phases.push({ fields: () => phase });
  }

  /** Notes that a phase has sent work back to an earlier one, now. */
  feedback(fromPhase: string, toPhase: string, { reason }: FeedbackOptions = {}): void {
    if (this.#isLate("feedback")) return;
    const at = this.#stopwatch.at(this.#stopwatch.ms());
    this.#loops.push(known({ from_phase: fromPhase, to_phase: toPhase, reason, at }));
  }

  /**
   * Says fields of the record; they stand over what is measured or computed. Null: unknown.
   *
   * @throws TypeError: the contract has no such field.
   */
  set(fields: RunFields): void {
    checkNames(fields, RUN_FIELDS);
    if (!this.#isLate("set")) Object.assign(this.#said, fields);
  }

  /** @internal */
  async end(failure: Failure | null): Promise<void> {
    const ms = this.#stopwatch.ms();
    const failed: RunFields = failure ? { outcome: "failure", error: textOf(failure.thrown) } : {};
    this.#ending = { ended_at: this.#stopwatch.at(ms), total_duration_ms: ms, ...failed };
    await this.#record();
  }

  /** One version after the other, since the last word wins. */
  #record(): Promise<void> {
    const recorded = this.#recorded.then(() => this.#recording.record(this.#fields()));
    this.#recorded = recorded.catch(() => {});
    return recorded;
  }

  #fields(): Trajectory {
    const phases = this.#phases.map((phase) => phase.fields());
    return {
      id: this.id,
      started_at: this.#stopwatch.at(0),
      ...(this.#loops.length > 0 && { feedback_loops: this.#loops }),
      // Of a run that goes on or was killed, the server would derive success from the phases so far.
      ...(this.#ending ? { ...totals(phases), ...this.#ending } : { outcome: "unknown" as const }),
      ...this.#given,
      phases,
      ...this.#said,
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
    if (this.#ending) console.warn(`trajectory-sdk: run ${this.id} has ended, so this is not recorded any more: ${what}`);
    return this.#ending !== null;
  }
}

/** What was thrown, which may be anything. */
export interface Failure {
  thrown: unknown;
}

/** What `act` returns, once `end` is done. What it throws goes through, also where `end` fails in its turn. */
export async function endedAfter<T>(
  act: () => T | PromiseLike<T>,
  end: (failure: Failure | null) => Promise<void>,
): Promise<T> {
  let value: T;
  try {
    value = await act();
  } catch (thrown) {
    await end({ thrown }).catch((error: unknown) => {
      console.warn(`trajectory-sdk: a failed run could not be recorded: ${textOf(error)}`);
    });
    throw thrown;
  }
  await end(null);
  return value;
}

/** Options and what to do with them, the options left out at will. */
export type Given<Options, Subject, T> =
  | [act: (subject: Subject) => T | PromiseLike<T>]
  | [options: Options, act: (subject: Subject) => T | PromiseLike<T>];

export function separated<Options extends object, Subject, T>(
  given: Given<Options, Subject, T>,
): [Partial<Options>, (subject: Subject) => T | PromiseLike<T>] {
  return given.length === 1 ? [{}, given[0]] : given;
}

function totals(phases: readonly Phase[]): RunFields {
  const costs = phases.map(({ cost_usd }) => cost_usd).filter((cost) => isAmount("cost_usd", cost));
  const sum = new DecimalSum();
  for (const cost of costs) sum.add(cost);
  return {
    total_phases: phases.length,
    phases_skipped: phases.filter(({ outcome }) => outcome === "skipped").length,
    ...(costs.length > 0 && { total_cost_usd: sum.toNumber() }),
  };
}

function known<Fields extends object>(fields: Fields): { [Name in keyof Fields]: NonNullable<Fields[Name]> } {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(given) as { [Name in keyof Fields]: NonNullable<Fields[Name]> };
}

function checkNames(fields: object, names: object): void {
  const unknown = Object.keys(fields).find((name) => !Object.hasOwn(names, name));
  if (unknown !== undefined) throw new TypeError(`There is no field ${JSON.stringify(unknown)}; own data goes into metadata.`);
}
