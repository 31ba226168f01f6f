import { adviser, alerts, Evaluations, Recommendations } from "./advice.js";
import { BackgroundQueue, type TimeoutOptions } from "./background.js";
import { type ClientOptions, Config } from "./config.js";
import { Http } from "./http.js";
import { Outcomes } from "./outcomes.js";
import { Trajectories } from "./trajectories.js";
import type { Alerts, RequestOptions } from "./types.js";
import { WarningLog } from "./warnings.js";

/**
 * A client of the store. Create one per program and reuse it.
 *
 * ```ts
 * const client = new TrajectoryClient({ baseUrl: "https://store.example.com", apiKey });
 * ```
 *
 * @throws TypeError: an option is invalid.
 */
export class TrajectoryClient implements AsyncDisposable {
  /** The configuration of the client. */
  readonly config: Config;
  /** The operations on trajectories. */
  readonly trajectories: Trajectories;
  /** The operations on late outcomes. */
  readonly outcomes: Outcomes;
  /** The operations on recommendations. */
  readonly recommendations: Recommendations;
  /** The operations on evaluations of policies. */
  readonly evaluations: Evaluations;
  readonly #http: Http;
  readonly #log = new WarningLog();
  #queue: BackgroundQueue | null = null;

  /** Options that are missing come from the environment. */
  constructor({ fetch, ...options }: ClientOptions = {}) {
    this.config = new Config(options);
    this.#http = new Http(this.config, fetch);
    this.outcomes = new Outcomes(this.#http, () => this.queue);
    this.trajectories = new Trajectories(this.#http, this.#log, () => this.queue, adviser(this.#http, this.config));
    this.recommendations = new Recommendations(this.#http);
    this.evaluations = new Evaluations(this.#http);
  }

  /** The background queue, created on first use. */
  get queue(): BackgroundQueue {
    return (this.#queue ??= new BackgroundQueue(this.#http, this.#log));
  }

  /** Returns what has changed in the choices and their success, in the last weeks (4 by default) against everything before. */
  async alerts({ weeks }: { weeks?: number | undefined } = {}, options?: RequestOptions): Promise<Alerts> {
    return alerts(this.#http, weeks, options);
  }

  /** Closes the background queue with {@link BackgroundQueue.close}. Other calls still work. */
  async close(options?: TimeoutOptions): Promise<void> {
    await this.#queue?.close(options);
  }

  /** Calls {@link TrajectoryClient.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
