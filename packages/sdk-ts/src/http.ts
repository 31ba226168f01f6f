/** Requests, responses and retries. */
import type { Config } from "./config.js";
import { APIConnectionError, APIStatusError, APITimeoutError, statusError } from "./errors.js";
import { uuid } from "./ids.js";
import { delayS, isRetriedStatus, sleep } from "./retries.js";

export const PATH = "/v1/agent/trajectories";
export const OUTCOMES_PATH = "/v1/agent/outcomes";
export const JSON_TYPE = "application/json";
export const MERGE_PATCH_TYPE = "application/merge-patch+json";
export const NDJSON_TYPE = "application/x-ndjson";

/** One request to the server. Parameters that are null or undefined are omitted. */
export interface Request {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  path: string;
  query?: object;
  body?: Uint8Array<ArrayBuffer>;
  contentType?: string;
  /** The revision that the server must have. */
  ifMatch?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Sends requests to one server with `fetch`. */
export class Http {
  readonly config: Config;
  readonly #fetch: typeof globalThis.fetch;

  constructor(config: Config, fetch: typeof globalThis.fetch | undefined) {
    this.config = config;
    // Browsers require fetch to be called on the global object. Looked up per call, so that a later replacement is used.
    this.#fetch = fetch ?? ((...given) => globalThis.fetch(...given));
  }

  /**
   * Returns the JSON of a successful response. Retries failures that a retry can fix.
   *
   * @throws {@link APIConnectionError} the last attempt got no response.
   * @throws {@link APIStatusError} the response is an error. Its code is `unreadable_answer` if it is not from this API.
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

  /** Returns a successful response with its body unread, in one attempt. Read or close the body. */
  async open(request: Request, requestId: string): Promise<HttpResponse> {
    const response = await HttpResponse.to(this.#fetch, this.config, request, requestId);
    if (response.isSuccess) return response;
    const body = await response.text().catch(() => "");
    request.signal?.throwIfAborted();
    throw statusError(response.status, body, response.headers, requestId);
  }

  /** Waits before the next attempt. Throws `error` if no attempt is left, or if a retry cannot help. */
  async waitOrThrow(error: unknown, attempt: number, maxRetries: number, signal?: AbortSignal): Promise<void> {
    const seconds = isWorthRetrying(error) ? delayS(attempt, retryAfter(error)) : null;
    if (seconds === null || attempt >= maxRetries) throw error;
    await sleep(seconds, signal);
  }

  async #once<T extends object>(request: Request, requestId: string): Promise<T> {
    const response = await this.open(request, requestId);
    const body: unknown = parsed(await response.text());
    if (typeof body === "object" && body !== null) return body as T;
    throw new APIStatusError("The response is not from this API. Check baseUrl.", {
      status: response.status,
      code: "unreadable_answer",
      requestId,
    });
  }
}

/** A response whose body can be read once. */
export class HttpResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly #body: ReadableStream<Uint8Array> | null;
  readonly #timeouts: Timeouts;

  private constructor(response: Response, timeouts: Timeouts) {
    this.status = response.status;
    this.headers = response.headers;
    this.#body = response.body;
    this.#timeouts = timeouts;
  }

  static async to(fetch: typeof globalThis.fetch, config: Config, request: Request, requestId: string): Promise<HttpResponse> {
    const timeouts = new Timeouts(config.timeoutS, request.signal, requestId);
    const response = await timeouts.for(() =>
      fetch(config.baseUrl + request.path + queryText(request.query), {
        method: request.method,
        headers: headersOf(config, request, requestId),
        signal: timeouts.signal,
        // A POST that follows a redirect becomes a GET. Some edge runtimes refuse further options of a request.
        redirect: "manual",
        ...(request.body && { body: request.body }),
      }),
    );
    return new HttpResponse(response, timeouts);
  }

  get isSuccess(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  /** Yields the parts of the body as they arrive. Stopping early closes the connection. */
  async *parts(): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = this.#body?.getReader();
    try {
      for (let part = await this.#read(reader); part; part = await this.#read(reader)) yield part;
    } finally {
      this.#timeouts.end();
    }
  }

  async text(): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const part of this.parts()) text += decoder.decode(part, { stream: true });
    return text + decoder.decode();
  }

  async #read(reader: ReadableStreamDefaultReader<Uint8Array> | undefined): Promise<Uint8Array | undefined> {
    return reader && (await this.#timeouts.for(() => reader.read())).value;
  }
}

/** Timeouts of one request: each wait has its own time limit, and the signal of the caller ends all. */
class Timeouts {
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
    // Browsers of 2023 lack AbortSignal.any.
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
      throw this.#reason(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Aborts the request. */
  end(): void {
    this.#caller?.removeEventListener("abort", this.#onAbort);
    this.#controller.abort();
  }

  #reason(error: unknown): unknown {
    if (this.#caller?.aborted) return this.#caller.reason;
    const options = { cause: error, requestId: this.#requestId };
    if (this.#isLate) return new APITimeoutError(`The server did not respond within ${this.#timeoutS} s.`, options);
    return new APIConnectionError("The server is unreachable, or the connection broke.", options);
  }
}

/** Returns the path of one trajectory. */
export function onePath(id: string): string {
  if (!id) throw new TypeError("id must not be empty");
  return `${PATH}/${encodeURIComponent(id)}`;
}

/** Whether a retry can succeed. */
export function isWorthRetrying(error: unknown): error is APIConnectionError | APIStatusError {
  return error instanceof APIConnectionError || (error instanceof APIStatusError && isRetriedStatus(error.status));
}

/** Returns the seconds to wait that an error gives, or null. */
export function retryAfter(error: unknown): number | null {
  return error instanceof APIStatusError ? error.retryAfterS : null;
}

function headersOf(config: Config, request: Request, requestId: string): Headers {
  const headers = new Headers({ Accept: "*/*", "X-Request-Id": requestId });
  if (config.apiKey !== null) headers.set("Authorization", `Bearer ${config.apiKey}`);
  if (request.ifMatch !== undefined) headers.set("If-Match", `"${request.ifMatch}"`);
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
