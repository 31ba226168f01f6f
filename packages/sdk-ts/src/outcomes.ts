import type { BackgroundQueue } from "./background.js";
import { type Http, JSON_TYPE, onePath, OUTCOMES_PATH } from "./http.js";
import { uuid } from "./ids.js";
import { finite, type Line } from "./recording.js";
import type { LateOutcome, RequestOptions, StoredOutcome } from "./types.js";

/** The operations on late outcomes, as `client.outcomes`: results of runs that are known after they were recorded. */
export class Outcomes {
  readonly #http: Http;
  readonly #queue: () => BackgroundQueue;

  /** @internal */
  constructor(http: Http, queue: () => BackgroundQueue) {
    this.#http = http;
    this.#queue = queue;
  }

  /**
   * Records one outcome. It is durable when the promise resolves. Its run need not have come.
   *
   * `trajectory_id` names the run, or `reference` an entry of `external_refs` or `session_id`: the outcome is then one of each run that
   * has it. The SDK generates a missing `idempotency_key`, so that a retry is the same outcome.
   *
   * @throws {@link BadRequestError} 400: the outcome is invalid. `details` has every problem with its path.
   * @throws {@link ConflictError} 409: the run was deleted, the key was used for another outcome, or there are too many.
   */
  async record(outcome: LateOutcome, options?: RequestOptions): Promise<StoredOutcome> {
    const { data: body } = outcomeLine(outcome);
    return this.#http.call({ method: "POST", path: OUTCOMES_PATH, body, contentType: JSON_TYPE, signal: options?.signal });
  }

  /**
   * Adds an outcome to the background queue. Never throws; see `client.queue.counters` for the result. The queue is in memory, so a
   * killed process loses it.
   */
  enqueue(outcome: LateOutcome): void {
    this.#queue().enqueueOutcome(outcome);
  }

  /**
   * Returns the outcomes of one run, in the order of their acceptance.
   *
   * @throws {@link NotFoundError} 404: the tenant has no trajectory with this id.
   */
  async list(id: string, options?: RequestOptions): Promise<StoredOutcome[]> {
    const found: { data: StoredOutcome[] } = await this.#http.call({
      method: "GET",
      path: `${onePath(id)}/outcomes`,
      signal: options?.signal,
    });
    return found.data;
  }
}

/**
 * Serializes an outcome, with a generated `idempotency_key` if it has none, so that a retry is the same outcome.
 *
 * @throws TypeError, RangeError: a value is not serializable as JSON.
 */
export function outcomeLine(outcome: LateOutcome): Line {
  const data = new TextEncoder().encode(JSON.stringify({ ...outcome, idempotency_key: outcome.idempotency_key ?? uuid() }, finite));
  return { id: `outcome ${uuid()}`, isOutcome: true, data };
}
