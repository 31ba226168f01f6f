const DEFAULT_BASE_URL = "http://127.0.0.1:8000";
const DEFAULT_TIMEOUT_S = 30;
const DEFAULT_MAX_RETRIES = 4;

/** Options of a client. Each has a default. */
export interface ClientOptions {
  /** Address of the store, with its path. Default: `TRAJSTORE_BASE_URL`, or `http://127.0.0.1:8000`. */
  baseUrl?: string | undefined;
  /** Default: `TRAJSTORE_API_KEY`. Without either, requests have no key. Every visitor of a page can read its key. */
  apiKey?: string | undefined;
  /** Seconds to wait for the response, and for each part of its body; 30 by default. Not a limit for the whole call. */
  timeoutS?: number | undefined;
  /** How often a failed call is retried if a retry can help; 4 by default. */
  maxRetries?: number | undefined;
  /** Headers of every request. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Replaces the `fetch` of the runtime. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** The configuration of one client. Dumps of it do not show the key and the headers. */
export class Config {
  /** Address of the store, without a trailing slash. */
  readonly baseUrl: string;
  /** Seconds to wait for the response, and for each part of its body. */
  readonly timeoutS: number;
  /** How often a call is retried. For an export: how often in a row without new records. */
  readonly maxRetries: number;
  readonly #apiKey: string | null;
  readonly #headers: Readonly<Record<string, string>>;

  /** Options that are missing come from the environment. Empty variables are ignored. */
  constructor(given: Omit<ClientOptions, "fetch"> = {}) {
    this.baseUrl = (given.baseUrl ?? (variable("TRAJSTORE_BASE_URL") || DEFAULT_BASE_URL)).replace(/\/+$/, "");
    this.timeoutS = given.timeoutS ?? DEFAULT_TIMEOUT_S;
    this.maxRetries = given.maxRetries ?? DEFAULT_MAX_RETRIES;
    this.#apiKey = (given.apiKey ?? variable("TRAJSTORE_API_KEY")) || null;
    this.#headers = { ...given.headers };
    this.#check();
  }

  /** The API key, or null if requests have none. */
  get apiKey(): string | null {
    return this.#apiKey;
  }

  /** Headers of every request. */
  get headers(): Readonly<Record<string, string>> {
    return this.#headers;
  }

  #check(): void {
    const url = URL.canParse(this.baseUrl) ? new URL(this.baseUrl) : null;
    if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) {
      throw new TypeError("baseUrl must be an http or https URL without a query, such as http://127.0.0.1:8000");
    }
    if (url.username || url.password) {
      throw new TypeError("baseUrl must not contain a user or a password");
    }
    if (this.#apiKey !== null && !/^[\x21-\x7e]+$/.test(this.#apiKey)) {
      throw new TypeError("apiKey must consist of printable ASCII characters without spaces");
    }
    if (!(this.timeoutS > 0) || !Number.isInteger(this.maxRetries) || this.maxRetries < 0) {
      throw new TypeError(`timeoutS must be above 0, and maxRetries an integer of at least 0; got ${this.timeoutS} and ${this.maxRetries}`);
    }
  }
}

function variable(name: string): string {
  // Browsers have no process, and some edge runtimes have one without an environment.
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name]?.trim() ?? "";
}
