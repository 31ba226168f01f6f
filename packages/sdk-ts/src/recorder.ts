/** The recorder: a run is measured while it happens, and recorded when it ends. */
import { DecimalSum } from "./decimals.js";
import { uuid } from "./ids.js";
import type { FeedbackLoop, Phase, Trajectory } from "./types.js";

type TrajectoryFields = Omit<Trajectory, "id" | "phases" | "request_summary">;
type PhaseFields = Omit<Phase, "phase_name">;

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

/** What a call to a model has used. What is left out, null or no number stays unknown. */
export type Usage = Pick<
  Phase,
  "input_tokens" | "output_tokens" | "cached_input_tokens" | "reasoning_tokens" | "cost_usd"
>;

const USAGE = ["input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd"] as const;
const MAX_ERROR = 2_000;

// Each name once, and none that the contract does not have: else this does not compile.
const TRAJECTORY_FIELDS: Record<keyof TrajectoryFields, true> = {
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

/** A time, and how long it is ago by a clock that nobody sets. */
class Stopwatch {
  readonly startedAt = Date.now();
  readonly #from = performance.now();

  /** In milliseconds, to the microsecond. */
  elapsedMs(): number {
    return Math.round((performance.now() - this.#from) * 1000) / 1000;
  }
}

/** A phase that runs. */
export class RunPhase {
  /** Its name, as given. */
  readonly name: string;
  readonly #stopwatch = new Stopwatch();
  readonly #measured: PhaseFields;
  readonly #said: PhaseFields = {};
  readonly #usage = new Map<(typeof USAGE)[number], DecimalSum>();
  readonly #tools = new Set<string>();

  /** @internal */
  constructor(name: string, options: PhaseOptions) {
    checkNames(options, PHASE_FIELDS);
    this.name = name;
    this.#measured = { ...options, started_at: rfc3339(this.#stopwatch.startedAt) };
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
      if (typeof value !== "number" || !Number.isFinite(value)) continue;
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
    this.#measured.steps_taken = (this.#measured.steps_taken ?? 0) + count;
  }

  /** Another model answers: the one asked for first becomes `requested_model`, if that is not said, and this one `model`. */
  fallBackTo(model: string): void {
    const { requested_model, model: before } = { ...this.#measured, ...this.#said };
    this.set({ requested_model: requested_model ?? before ?? null, model });
  }

  /** The phase has failed, though nothing is thrown. */
  fail(error: unknown): void {
    this.#measured.outcome = "failure";
    this.#measured.error = textOf(error);
  }

  /** @internal */
  end(failure: Failure | null): void {
    if (failure) this.fail(failure.thrown);
    this.#measured.duration_ms ??= this.#stopwatch.elapsedMs();
    this.#measured.outcome ??= "success";
  }

  /** @internal */
  fields(): Phase {
    const sums = Object.fromEntries([...this.#usage].map(([name, sum]) => [name, sum.toNumber()]));
    const tools = this.#tools.size > 0 ? { tools_used: [...this.#tools] } : {};
    return { phase_name: this.name, ...this.#measured, ...sums, ...tools, ...this.#said };
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
  readonly #summary: string;
  readonly #recording: Recording;
  readonly #stopwatch = new Stopwatch();
  readonly #given: TrajectoryFields;
  readonly #said: TrajectoryFields = {};
  readonly #ending: TrajectoryFields = {};
  readonly #phases: { fields(): Phase }[] = [];
  readonly #attempts = new Map<string, number>();
  readonly #loops: FeedbackLoop[] = [];

  /** @internal */
  constructor(summary: string, options: RunOptions, recording: Recording) {
    const { id, background: _background, progress: _progress, ...given } = options;
    checkNames(given, TRAJECTORY_FIELDS);
    this.id = id ?? uuid();
    this.#summary = summary;
    this.#given = given;
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
        phase.end(failure);
        if (this.#recording.isProgressive) await this.#recording.record(this.fields());
      },
    );
  }

  /** Notes a phase that did not run, and why. */
  skip(name: string, { reason, agent, metadata }: SkipOptions = {}): void {
    const fields = { agent, metadata, skip_reason: reason };
    const phase: Phase = { phase_name: name, outcome: "skipped", ...known(fields) };
    this.#phases.push({ fields: () => phase });
  }

  /** Notes that a phase has sent work back to an earlier one. */
  feedback(fromPhase: string, toPhase: string, { reason }: { reason?: string | null | undefined } = {}): void {
    const loop = { from_phase: fromPhase, to_phase: toPhase, reason, at: rfc3339(Date.now()) };
    this.#loops.push(known(loop));
  }

  /**
   * Says fields of the record; they stand over what is measured or computed. Null: unknown.
   *
   * @throws TypeError: the contract has no such field.
   */
  set(fields: TrajectoryFields): void {
    checkNames(fields, TRAJECTORY_FIELDS);
    Object.assign(this.#said, fields);
  }

  /** @internal */
  async end(failure: Failure | null): Promise<void> {
    const elapsedMs = this.#stopwatch.elapsedMs();
    this.#ending.ended_at = rfc3339(this.#stopwatch.startedAt + elapsedMs);
    this.#ending.total_duration_ms = elapsedMs;
    if (failure) Object.assign(this.#ending, { outcome: "failure", error: textOf(failure.thrown) });
    await this.#recording.record(this.fields());
  }

  /** @internal */
  fields(): Trajectory {
    const phases = this.#phases.map((phase) => phase.fields());
    return {
      id: this.id,
      request_summary: this.#summary,
      ...this.#given,
      started_at: rfc3339(this.#stopwatch.startedAt),
      phases,
      ...totals(phases),
      ...(this.#loops.length > 0 && { feedback_loops: this.#loops }),
      ...this.#ending,
      ...this.#said,
    };
  }

  #begin(name: string, options: PhaseOptions): RunPhase {
    const attempt = (this.#attempts.get(name) ?? 0) + 1;
    const phase = new RunPhase(name, { ...options, attempt: options.attempt ?? attempt });
    this.#attempts.set(name, attempt);
    this.#phases.push(phase);
    return phase;
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

function totals(phases: readonly Phase[]): TrajectoryFields {
  const costs = phases.map(({ cost_usd }) => cost_usd).filter((cost) => typeof cost === "number");
  const sum = new DecimalSum();
  for (const cost of costs) sum.add(cost);
  const skipped = phases.filter(({ outcome }) => outcome === "skipped").length;
  return {
    total_phases: phases.length - skipped,
    phases_skipped: skipped,
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

/** "TypeError: text", bounded, without what the store refuses: NUL, and halves of surrogate pairs. */
function textOf(error: unknown): string {
  try {
    return String(error).slice(0, MAX_ERROR).replace(/\0|\p{Surrogate}/gu, "\ufffd");
  } catch {
    return "an error that cannot be shown";
  }
}

function rfc3339(ms: number): string {
  return new Date(ms).toISOString();
}
