import { type Given, runThenEnd, splitArguments } from "./acting.js";
import { Adjustments } from "./adjustments.js";
import type { Ask } from "./advice.js";
import type { BackgroundQueue } from "./background.js";
import { type ExportOptions, TrajectoryExport } from "./exporting.js";
import { type Http, onePath, PATH } from "./http.js";
import { TrajectoryList } from "./listing.js";
import { type Recording, Run, type RunOptions } from "./recorder.js";
import { record, recordLine, recordMany, type RecordManyOptions, type RecordOptions, update, type UpdateOptions } from "./recording.js";
import { InterruptedRuns, stored } from "./resuming.js";
import type {
  DeletedTrajectories,
  DeletedTrajectory,
  DeleteParameters,
  ExportParameters,
  ListParameters,
  MatchingTrajectories,
  Readiness,
  ReadinessParameters,
  RecordedMany,
  RequestOptions,
  Stats,
  StatsParameters,
  StoredTrajectory,
  Trajectory,
  TrajectoryPatch,
} from "./types.js";
import type { WarningLog } from "./warnings.js";

/**
 * The operations on trajectories, as `client.trajectories`.
 *
 * Each call may throw an {@link APIConnectionError} or an {@link APIStatusError}, after retries if a retry can help.
 */
export class Trajectories {
  readonly #http: Http;
  readonly #log: WarningLog;
  readonly #queue: () => BackgroundQueue;
  readonly #ask: Ask;
  readonly #interrupted = new InterruptedRuns();
  readonly #adjustments = new Adjustments();

  /** @internal */
  constructor(http: Http, log: WarningLog, queue: () => BackgroundQueue, ask: Ask) {
    this.#ask = ask;
    this.#http = http;
    this.#log = log;
    this.#queue = queue;
  }

  /**
   * Records one trajectory. It is durable when the promise resolves.
   *
   * The SDK generates a missing `id`, so that a retry is the same record. Recording an id again stores a new revision, or nothing
   * if the body is the same. Contradictions in the record are in `warnings` of the result, and each is logged once a run and code.
   *
   * @returns the stored trajectory: normalised, with `recorded_at`, `revision` and `derived`.
   * @throws {@link BadRequestError} 400: the trajectory is invalid. `details` has every problem with its path.
   * @throws {@link DroppedPhasesError} 409: the stored version has phases that this one lacks. Send them all, use `update`, or set `replace`.
   * @throws {@link ConflictError} 409: the id was deleted.
   * @throws TypeError, RangeError: a value is not serializable as JSON. Nothing was sent.
   */
  async record(trajectory: Trajectory, options?: RecordOptions): Promise<StoredTrajectory> {
    return record(this.#http, this.#log, trajectory, options);
  }

  /**
   * Changes fields of one trajectory. It is durable when the promise resolves.
   *
   * Null deletes a field. `phases` has objects with a `phase_id`, which change the phase of that id; an unknown id appends a phase, and
   * then `phase_name` is required. Other lists are replaced as a whole. After a broken connection, a retry with `ifMatch` may be refused
   * because the first attempt was applied.
   *
   * @returns the whole trajectory as stored.
   * @throws {@link NotFoundError} 404: the tenant has no trajectory with this id.
   * @throws {@link ConflictError} 409: the id was deleted.
   * @throws {@link PreconditionFailedError} 412: the store has another revision than `ifMatch`.
   */
  async update(id: string, patch: TrajectoryPatch, options?: UpdateOptions): Promise<StoredTrajectory> {
    return update(this.#http, this.#log, id, patch, options);
  }

  /**
   * Records many trajectories, in requests of at most `maxLines` records and `maxBytes` bytes.
   *
   * A record that is refused or not serializable does not affect the others. Its result has the error.
   *
   * @throws {@link TrajectoryError} a whole request failed after all retries. `recorded` has the results of the records before.
   */
  async recordMany(
    trajectories: Iterable<Trajectory> | AsyncIterable<Trajectory>,
    options?: RecordManyOptions,
  ): Promise<RecordedMany> {
    return recordMany(this.#http, this.#log, trajectories, options);
  }

  /** Lists the trajectories that match the filters, newest first. Await it for the first page, or iterate it for every record. */
  list(parameters?: ListParameters, options?: RequestOptions): TrajectoryList {
    return new TrajectoryList(this.#http, parameters, options);
  }

  /**
   * Returns one trajectory.
   *
   * @throws {@link NotFoundError} 404: the tenant has no trajectory with this id.
   */
  async retrieve(id: string, options?: RequestOptions): Promise<StoredTrajectory> {
    return this.#http.call({ method: "GET", path: onePath(id), signal: options?.signal });
  }

  /** Returns statistics of the trajectories that match the filters, also by phase, model and selection method, with Wilson bounds. */
  async stats(parameters?: StatsParameters, options?: RequestOptions): Promise<Stats> {
    return this.#http.call({ method: "GET", path: `${PATH}/stats`, query: parameters ?? {}, signal: options?.signal });
  }

  /** Returns whether the newest trajectories that match the filters are worth training on. Each failed check says what to do. */
  async readiness(parameters?: ReadinessParameters, options?: RequestOptions): Promise<Readiness> {
    return this.#http.call({
      method: "GET",
      path: `${PATH}/readiness`,
      query: parameters ?? {},
      signal: options?.signal,
    });
  }

  /** Exports the trajectories that match the filters, in the order in which they reached the archive. Iterate it, or use its `stream()`. */
  exportJsonl(parameters?: ExportParameters, options?: ExportOptions): TrajectoryExport {
    return new TrajectoryExport(this.#http, parameters, options);
  }

  /**
   * Deletes one trajectory permanently. Repeating the call is safe.
   *
   * @throws {@link ServiceUnavailableError} 503, after retries: an unavailable part of the store still has the trajectory.
   */
  async delete(id: string, options?: RequestOptions): Promise<DeletedTrajectory> {
    return this.#http.call({ method: "DELETE", path: onePath(id), signal: options?.signal });
  }

  /**
   * Deletes all trajectories that match the filters permanently.
   *
   * First call it with `dry_run`, which returns a count and a token. Then call it with that token and the same filters. Repeat the
   * second call while `has_more` is true.
   *
   * @throws {@link BadRequestError} 400: there is no filter, or the token belongs to other filters.
   */
  deleteMatching(
    parameters: DeleteParameters & { dry_run: true },
    options?: RequestOptions,
  ): Promise<MatchingTrajectories>;
  deleteMatching(
    parameters: DeleteParameters & { dry_run?: false },
    options?: RequestOptions,
  ): Promise<DeletedTrajectories>;
  async deleteMatching(
    { dry_run, ...rest }: DeleteParameters & { dry_run?: boolean },
    options?: RequestOptions,
  ): Promise<MatchingTrajectories | DeletedTrajectories> {
    const query = { ...rest, ...(dry_run && { dry_run: 1 }) };
    return this.#http.call({ method: "DELETE", path: PATH, query, signal: options?.signal });
  }

  /**
   * Runs `act` and records it as one trajectory, with its phases, their durations and their errors.
   *
   * An error thrown by `act` is rethrown, and the run is recorded as a failure with that error.
   *
   * @returns the result of `act`.
   */
  run<T>(requestSummary: string, act: (run: Run) => T | PromiseLike<T>): Promise<T>;
  run<T>(requestSummary: string, options: RunOptions, act: (run: Run) => T | PromiseLike<T>): Promise<T>;
  async run<T>(requestSummary: string, ...given: Given<RunOptions, Run, T>): Promise<T> {
    const [options, act] = splitArguments(given);
    const run = new Run(requestSummary, options, this.#recordingOf(options));
    return runThenEnd(
      () => act(run),
      (failure) => run.finish(failure),
    );
  }

  /**
   * Starts a run and returns it, for code that a callback does not fit. Call its `end`, or declare it with `await using`.
   *
   * ```ts
   * await using run = client.trajectories.start("Add auth");
   * await run.phase("spec", () => writeSpec());
   * ```
   */
  start(requestSummary: string, options: RunOptions = {}): Run {
    return new Run(requestSummary, options, this.#recordingOf(options));
  }

  /**
   * Adds a trajectory to the background queue. Never throws; see `client.queue.counters` for the result.
   *
   * @returns the id of the trajectory, generated if it has none.
   */
  enqueue(trajectory: Trajectory): string {
    return this.#queue().enqueue(trajectory);
  }

  async #earlier(id: string, resume: boolean): Promise<Trajectory | null> {
    const known = this.#interrupted.find(id);
    if (known !== null || !resume) return known;
    return stored(id, (options) => this.#queue().flush(options), (one) => this.retrieve(one));
  }

  #recordingOf({ background = true, progress = false, resume = false }: RunOptions): Recording {
    return {
      earlier: {
        find: (id) => this.#earlier(id, resume),
        mayFind: (id) => resume || this.#interrupted.find(id) !== null,
        remember: (record) => this.#interrupted.remember(record),
      },
      outcome: (outcome) => this.#queue().enqueueOutcome(outcome),
      ask: this.#ask,
      isBackground: background,
      isProgressive: progress,
      record: async (trajectory) => {
        if (background) this.enqueue(trajectory);
        else await recordLine(this.#http, this.#log, this.#adjustments.line(trajectory));
      },
    };
  }
}
