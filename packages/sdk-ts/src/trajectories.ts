import type { BackgroundQueue } from "./background.js";
import { type ExportOptions, TrajectoryExport } from "./exporting.js";
import { type Http, PATH } from "./http.js";
import { TrajectoryList } from "./listing.js";
import { endedAfter, type Given, type Recording, Run, type RunOptions, separated } from "./recorder.js";
import { record, recordMany, type RecordManyOptions } from "./recording.js";
import type {
  DeletedTrajectories,
  DeletedTrajectory,
  DeleteParameters,
  ExportParameters,
  Filters,
  ListParameters,
  MatchingTrajectories,
  RecordedMany,
  RequestOptions,
  Stats,
  StoredTrajectory,
  Trajectory,
} from "./types.js";

/**
 * What can be done with trajectories: `client.trajectories`.
 *
 * Each call may throw an {@link APIConnectionError} or an {@link APIStatusError}, after it was tried again where that may help.
 */
export class Trajectories {
  readonly #http: Http;
  readonly #queue: () => BackgroundQueue;

  /** @internal */
  constructor(http: Http, queue: () => BackgroundQueue) {
    this.#http = http;
    this.#queue = queue;
  }

  /**
   * Takes one trajectory; when the promise is resolved it is durable.
   *
   * The SDK makes the `id` if there is none, so that a retry is the same record. The same id again stores a new revision, or
   * nothing if the body is the same.
   *
   * @returns it as stored: normalised, with `recorded_at` and `revision`.
   * @throws {@link BadRequestError} 400; `details` has every problem with its path.
   * @throws {@link ConflictError} 409; the id was deleted.
   * @throws TypeError, RangeError: nothing in JSON stands for a value; it was not sent.
   */
  async record(trajectory: Trajectory, options?: RequestOptions): Promise<StoredTrajectory> {
    return record(this.#http, trajectory, options);
  }

  /**
   * Takes many, in requests of at most `maxLines` records and `maxBytes` bytes.
   *
   * A record that is refused, or that nothing in JSON stands for, holds up no other: its result says why.
   *
   * @throws {@link TrajectoryError} a request as a whole failed, at last; `recorded` of it has what became of the records before.
   */
  async recordMany(
    trajectories: Iterable<Trajectory> | AsyncIterable<Trajectory>,
    options?: RecordManyOptions,
  ): Promise<RecordedMany> {
    return recordMany(this.#http, trajectories, options);
  }

  /** All that the filters find, newest first: await it for the first page, iterate it for every record. */
  list(parameters?: ListParameters, options?: RequestOptions): TrajectoryList {
    return new TrajectoryList(this.#http, parameters, options);
  }

  /**
   * One trajectory.
   *
   * @throws {@link NotFoundError} 404.
   */
  async retrieve(id: string, options?: RequestOptions): Promise<StoredTrajectory> {
    return this.#http.call({ method: "GET", path: onePath(id), signal: options?.signal });
  }

  /** Totals and groups of all that the filters find: by phase, model, selection method, with Wilson bounds. */
  async stats(filters?: Filters, options?: RequestOptions): Promise<Stats> {
    return this.#http.call({ method: "GET", path: `${PATH}/stats`, query: filters ?? {}, signal: options?.signal });
  }

  /** All that the filters find, in the order in which the archive got them: iterate it for records, or take its `stream()`. */
  exportJsonl(parameters?: ExportParameters, options?: ExportOptions): TrajectoryExport {
    return new TrajectoryExport(this.#http, parameters, options);
  }

  /**
   * Deletes one trajectory, for good. Repeating is safe.
   *
   * @throws {@link ServiceUnavailableError} 503, after retries: a part that is away still has it.
   */
  async delete(id: string, options?: RequestOptions): Promise<DeletedTrajectory> {
    return this.#http.call({ method: "DELETE", path: onePath(id), signal: options?.signal });
  }

  /**
   * Deletes all that the filters find, for good: first with `dry_run`, which counts and gives a token, then with that token and
   * the same filters. While `has_more` is true, the same call goes on.
   *
   * @throws {@link BadRequestError} 400: no filter, or a token that is not of these filters.
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
   * Runs `act` and records what it does as one trajectory: its phases, how long they took, what they threw.
   *
   * What `act` throws goes through; the run is then recorded as a failure with that error.
   *
   * @returns what `act` returns.
   */
  run<T>(requestSummary: string, act: (run: Run) => T | PromiseLike<T>): Promise<T>;
  run<T>(requestSummary: string, options: RunOptions, act: (run: Run) => T | PromiseLike<T>): Promise<T>;
  async run<T>(requestSummary: string, ...given: Given<RunOptions, Run, T>): Promise<T> {
    const [options, act] = separated(given);
    const run = new Run(requestSummary, options, this.#recordingOf(options));
    return endedAfter(
      () => act(run),
      (failure) => run.end(failure),
    );
  }

  /**
   * Puts a trajectory on the background queue. Never throws: `client.queue.counters` tell what became of it.
   *
   * @returns its id, made here if it has none.
   */
  enqueue(trajectory: Trajectory): string {
    return this.#queue().enqueue(trajectory);
  }

  #recordingOf({ background = true, progress = false }: RunOptions): Recording {
    return {
      isProgressive: progress,
      record: async (trajectory) => {
        if (background) this.enqueue(trajectory);
        else await this.record(trajectory);
      },
    };
  }
}

function onePath(id: string): string {
  if (!id) throw new TypeError("The id is empty.");
  return `${PATH}/${encodeURIComponent(id)}`;
}
