import { type Http, PATH } from "./http.js";
import type { ListParameters, RequestOptions, StoredTrajectory, TrajectoryPage } from "./types.js";

/**
 * What `list` has found. Awaited it is the first page; iterated it is every record, newest first, page by page.
 *
 * Nothing is asked before one of the two; each asks anew.
 */
export class TrajectoryList implements PromiseLike<TrajectoryPage>, AsyncIterable<StoredTrajectory> {
  readonly #http: Http;
  readonly #parameters: ListParameters;
  readonly #signal: AbortSignal | undefined;

  /** @internal */
  constructor(http: Http, parameters: ListParameters = {}, options: RequestOptions = {}) {
    this.#http = http;
    this.#parameters = parameters;
    this.#signal = options.signal;
  }

  /** The first page, for `await`. */
  then<Kept = TrajectoryPage, Caught = never>(
    onPage?: ((page: TrajectoryPage) => Kept | PromiseLike<Kept>) | null,
    onError?: ((error: unknown) => Caught | PromiseLike<Caught>) | null,
  ): Promise<Kept | Caught> {
    return this.#page(this.#parameters.cursor).then(onPage, onError);
  }

  /** Every record, from `cursor` on. */
  async *[Symbol.asyncIterator](): AsyncGenerator<StoredTrajectory, void, undefined> {
    for await (const page of this.pages()) yield* page.data;
  }

  /** The pages, with `next_cursor` and with what they say of the tiers (`complete`). */
  async *pages(): AsyncGenerator<TrajectoryPage, void, undefined> {
    let cursor: string | null | undefined = this.#parameters.cursor;
    for (;;) {
      const page = await this.#page(cursor);
      yield page;
      if (!page.has_more || page.next_cursor === null || page.next_cursor === cursor) return;
      cursor = page.next_cursor;
    }
  }

  #page(cursor: string | undefined): Promise<TrajectoryPage> {
    return this.#http.call({ method: "GET", path: PATH, query: { ...this.#parameters, cursor }, signal: this.#signal });
  }
}
