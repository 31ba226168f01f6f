import { type Http, PATH } from "./http.js";
import type { ListParameters, RequestOptions, StoredTrajectory, TrajectoryPage } from "./types.js";

/**
 * The result of `list`. Await it for the first page, or iterate it for every record, newest first.
 *
 * Each await and each iteration sends its own requests. Creating the list sends none.
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

  /** Returns the first page, for `await`. */
  then<Kept = TrajectoryPage, Caught = never>(
    onPage?: ((page: TrajectoryPage) => Kept | PromiseLike<Kept>) | null,
    onError?: ((error: unknown) => Caught | PromiseLike<Caught>) | null,
  ): Promise<Kept | Caught> {
    return this.#page(this.#parameters.cursor).then(onPage, onError);
  }

  /** Yields every record, from `cursor` on. */
  async *[Symbol.asyncIterator](): AsyncGenerator<StoredTrajectory, void, undefined> {
    for await (const page of this.pages()) yield* page.data;
  }

  /** Yields the pages, which have `next_cursor` and `complete`. */
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
