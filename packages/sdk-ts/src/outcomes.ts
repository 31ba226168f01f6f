import { type Http, JSON_TYPE, onePath } from "./http.js";
import { uuid } from "./ids.js";
import { finite } from "./recording.js";
import type { LateOutcome, RequestOptions, StoredOutcome } from "./types.js";

const PATH = "/v1/agent/outcomes";

/** The operations on late outcomes, as `client.outcomes`: results of runs that are known after they were recorded. */
export class Outcomes {
  readonly #http: Http;

  /** @internal */
  constructor(http: Http) {
    this.#http = http;
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
    const body = new TextEncoder().encode(JSON.stringify({ idempotency_key: uuid(), ...outcome }, finite));
    return this.#http.call({ method: "POST", path: PATH, body, contentType: JSON_TYPE, signal: options?.signal });
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
