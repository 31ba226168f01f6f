import { BackgroundQueue, type TimeoutOptions } from "./background.js";
import { type ClientOptions, Config } from "./config.js";
import { Http } from "./http.js";
import { Trajectories } from "./trajectories.js";

/**
 * A client of the store. Make one for the program and keep it.
 *
 * ```ts
 * const client = new TrajectoryClient({ baseUrl: "https://store.example.com", apiKey });
 * ```
 *
 * @throws TypeError: an option makes no sense.
 */
export class TrajectoryClient implements AsyncDisposable {
  /** What it was made with. */
  readonly config: Config;
  /** What can be done with trajectories. */
  readonly trajectories: Trajectories;
  readonly #http: Http;
  #queue: BackgroundQueue | null = null;

  /** Without options, by the environment. */
  constructor({ fetch, ...options }: ClientOptions = {}) {
    this.config = new Config(options);
    this.#http = new Http(this.config, fetch);
    this.trajectories = new Trajectories(this.#http, () => this.queue);
  }

  /** Where background records wait. Made on first use. */
  get queue(): BackgroundQueue {
    return (this.#queue ??= new BackgroundQueue(this.#http));
  }

  /** Closes the background queue, as {@link BackgroundQueue.close}. Other calls go on. */
  async close(options?: TimeoutOptions): Promise<void> {
    await this.#queue?.close(options);
  }

  /** As {@link TrajectoryClient.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
