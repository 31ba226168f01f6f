/** Where the server is when nobody says it. */
const DEFAULT_BASE_URL = "http://127.0.0.1:8000";
const DEFAULT_TIMEOUT_S = 30;
const DEFAULT_MAX_RETRIES = 4;

/** How a client speaks to the store. What is left out has its default. */
export interface ClientOptions {
  /** Where the store is, a path included; else `TRAJECTORY_BASE_URL`, else `http://127.0.0.1:8000`. */
  baseUrl?: string | undefined;
  /** Else `TRAJECTORY_API_KEY`; without either none is sent. In a page everybody who sees the page has its key. */
  apiKey?: string | undefined;
  /** Seconds for each wait (for the answer, for its next part), not for the whole of a call; 30 by default. */
  timeoutS?: number | undefined;
  /** How often a call that failed is tried again, where that may help; 4 by default. */
  maxRetries?: number | undefined;
  /** Sent with every request. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** In place of the `fetch` of the runtime. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** Of one client. The key and the headers are readable, and in no dump of it. */
export class Config {
  /** Where the app is mounted, without a slash at its end. */
  readonly baseUrl: string;
  /** Seconds for each wait. */
  readonly timeoutS: number;
  /** How often a call is tried again; of an export, how often without getting further. */
  readonly maxRetries: number;
  readonly #apiKey: string | null;
  readonly #headers: Readonly<Record<string, string>>;

  /** What is given, else what the environment says. An empty variable says nothing. */
  constructor(given: Omit<ClientOptions, "fetch"> = {}) {
    this.baseUrl = (given.baseUrl ?? (variable("TRAJECTORY_BASE_URL") || DEFAULT_BASE_URL)).replace(/\/+$/, "");
    this.timeoutS = given.timeoutS ?? DEFAULT_TIMEOUT_S;
    this.maxRetries = given.maxRetries ?? DEFAULT_MAX_RETRIES;
    this.#apiKey = (given.apiKey ?? variable("TRAJECTORY_API_KEY")) || null;
    this.#headers = { ...given.headers };
    this.#check();
  }

  /** The key, or null where none is sent. */
  get apiKey(): string | null {
    return this.#apiKey;
  }

  /** Sent with every request. */
  get headers(): Readonly<Record<string, string>> {
    return this.#headers;
  }

  #check(): void {
    const url = URL.canParse(this.baseUrl) ? new URL(this.baseUrl) : null;
    if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) {
      throw new TypeError("baseUrl must be an http or https URL without a query, such as http://127.0.0.1:8000");
    }
    if (url.username || url.password) {
      throw new TypeError("baseUrl must be without a user and a password");
    }
    if (this.#apiKey !== null && !/^[\x21-\x7e]+$/.test(this.#apiKey)) {
      throw new TypeError("apiKey must be ASCII text on one line");
    }
    if (!(this.timeoutS > 0) || !Number.isInteger(this.maxRetries) || this.maxRetries < 0) {
      throw new TypeError("timeoutS must be above 0, and maxRetries a whole number of at least 0");
    }
  }
}

function variable(name: string): string {
  // Browsers have no process, and some edge runtimes one without an environment.
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name]?.trim() ?? "";
}
