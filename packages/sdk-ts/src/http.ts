/** Requests, their answers, and trying again. */
import type { Config } from "./config.js";
import { APIConnectionError, APIStatusError, APITimeoutError, statusError } from "./errors.js";
import { uuid } from "./ids.js";
import { delayS, isRetriedStatus, sleep } from "./retries.js";

export const PATH = "/v1/agent/trajectories";
export const JSON_TYPE = "application/json";
export const NDJSON_TYPE = "application/x-ndjson";

/** One request to the server. Parameters that are null or undefined are left out. */
export interface Request {
  method: "GET" | "POST" | "DELETE";
  path: string;
  query?: object;
  body?: Uint8Array<ArrayBuffer>;
  contentType?: string;
  signal?: AbortSignal | undefined;
}

/** Speaks to one server by `fetch`. */
export class Http {
  readonly config: Config;
  readonly #fetch: typeof globalThis.fetch;

  constructor(config: Config, fetch: typeof globalThis.fetch | undefined) {
    this.config = config;
    // Called as a method of its global, where browsers want it, and as whatever it is by then.
    this.#fetch = fetch ?? ((...given) => globalThis.fetch(...given));
  }

  /**
   * The good answer to a request as JSON, tried again where that may help.
   *
   * @throws {@link APIConnectionError} no answer, also not to the last attempt.
   * @throws {@link APIStatusError} an error, by its status; `unreadable_answer` where it is none of this API.
   */
  async call<T extends object>(request: Request, maxRetries = this.config.maxRetries): Promise<T> {
    const requestId = uuid();
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once<T>(request, requestId);
      } catch (error) {
        await this.waitOrThrow(error, attempt, maxRetries, request.signal);
      }
    }
  }

  /** A good answer, its body still to be read; one attempt. Close it. */
  async open(request: Request, requestId: string): Promise<Answer> {
    const answer = await Answer.to(this.#fetch, this.config, request, requestId);
    if (answer.isGood) return answer;
    const body = await answer.text().catch(() => "");
    request.signal?.throwIfAborted();
    throw statusError(answer.status, body, answer.headers, requestId);
  }

  /** Waits before another attempt; throws `error` where none is left, or none would help. */
  async waitOrThrow(error: unknown, attempt: number, maxRetries: number, signal?: AbortSignal): Promise<void> {
    const seconds = isWorthRetrying(error) ? delayS(attempt, retryAfter(error)) : null;
    if (seconds === null || attempt >= maxRetries) throw error;
    await sleep(seconds, signal);
  }

  async #once<T extends object>(request: Request, requestId: string): Promise<T> {
    const answer = await this.open(request, requestId);
    const body: unknown = parsed(await answer.text());
    if (typeof body === "object" && body !== null) return body as T;
    throw new APIStatusError("The answer is not one of this API; is baseUrl right?", {
      status: answer.status,
      code: "unreadable_answer",
      requestId,
    });
  }
}

/** What came back, to be read once. */
export class Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly #body: ReadableStream<Uint8Array> | null;
  readonly #waits: Waits;

  private constructor(response: Response, waits: Waits) {
    this.status = response.status;
    this.headers = response.headers;
    this.#body = response.body;
    this.#waits = waits;
  }

  static async to(fetch: typeof globalThis.fetch, config: Config, request: Request, requestId: string): Promise<Answer> {
    const waits = new Waits(config.timeoutS, request.signal, requestId);
    const response = await waits.for(() =>
      fetch(config.baseUrl + request.path + queryText(request.query), {
        method: request.method,
        headers: headersOf(config, request, requestId),
        signal: waits.signal,
        // A POST that follows a redirect becomes a GET. Other fields of a request some edge runtimes refuse.
        redirect: "manual",
        ...(request.body && { body: request.body }),
      }),
    );
    return new Answer(response, waits);
  }

  get isGood(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  /** The parts of the body as they come. Whoever stops early ends the connection. */
  async *parts(): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = this.#body?.getReader();
    try {
      for (let part = await this.#read(reader); part; part = await this.#read(reader)) yield part;
    } finally {
      this.#waits.end();
    }
  }

  async text(): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const part of this.parts()) text += decoder.decode(part, { stream: true });
    return text + decoder.decode();
  }

  async #read(reader: ReadableStreamDefaultReader<Uint8Array> | undefined): Promise<Uint8Array | undefined> {
    return reader && (await this.#waits.for(() => reader.read())).value;
  }
}

/** The waits of one exchange: each ends by itself after the timeout, and all with the caller's signal. */
class Waits {
  readonly #controller = new AbortController();
  readonly #timeoutS: number;
  readonly #caller: AbortSignal | undefined;
  readonly #requestId: string;
  readonly #onAbort = () => this.#controller.abort(this.#caller?.reason);
  #isLate = false;

  constructor(timeoutS: number, caller: AbortSignal | undefined, requestId: string) {
    this.#timeoutS = timeoutS;
    this.#caller = caller;
    this.#requestId = requestId;
    caller?.throwIfAborted();
    // By hand, since AbortSignal.any is missing in browsers of 2023.
    caller?.addEventListener("abort", this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  async for<T>(act: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.#isLate = true;
      this.#controller.abort();
    }, this.#timeoutS * 1000);
    try {
      return await act();
    } catch (error) {
      this.end();
      throw this.#said(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Nothing of it is wanted any more. */
  end(): void {
    this.#caller?.removeEventListener("abort", this.#onAbort);
    this.#controller.abort();
  }

  #said(error: unknown): unknown {
    if (this.#caller?.aborted) return this.#caller.reason;
    const options = { cause: error, requestId: this.#requestId };
    if (this.#isLate) return new APITimeoutError(`The server did not answer within ${this.#timeoutS} s.`, options);
    return new APIConnectionError("The server cannot be reached, or the connection broke.", options);
  }
}

/** Whether the same request may go better. */
export function isWorthRetrying(error: unknown): error is APIConnectionError | APIStatusError {
  return error instanceof APIConnectionError || (error instanceof APIStatusError && isRetriedStatus(error.status));
}

/** The seconds that an error asks to wait; null where it asks for none. */
export function retryAfter(error: unknown): number | null {
  return error instanceof APIStatusError ? error.retryAfterS : null;
}

function headersOf(config: Config, request: Request, requestId: string): Headers {
  const headers = new Headers({ Accept: "*/*", "X-Request-Id": requestId });
  if (config.apiKey !== null) headers.set("Authorization", `Bearer ${config.apiKey}`);
  if (request.contentType) headers.set("Content-Type", request.contentType);
  for (const [name, text] of Object.entries(config.headers)) headers.set(name, text);
  return headers;
}

function queryText(query: object | undefined): string {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
  if (given.length === 0) return "";
  const texts = given.map(([name, value]) => [name, value instanceof Date ? value.toISOString() : String(value)]);
  return `?${new URLSearchParams(texts)}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
