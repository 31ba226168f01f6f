/**
 * The background queue: records are kept at once, and sent while the program goes on.
 *
 * They are kept in memory, since browsers and edge runtimes have no disk: what is not sent when the process is killed is lost.
 * Full, the queue drops what comes: what has been kept is a promise already.
 */
import { APIStatusError } from "./errors.js";
import { forget, remember } from "./exit.js";
import { type Http, isWorthRetrying, retryAfter } from "./http.js";
import { uuid } from "./ids.js";
import { type Line, lineOf, sendLines } from "./recording.js";
import { isRetriedStatus } from "./retries.js";
import type { LineResult, Trajectory } from "./types.js";

const MAX_RECORDS = 10_000;
const MAX_BYTES = 64 * 1024 * 1024;
const BATCH_RECORDS = 500;
const BATCH_BYTES = 1024 * 1024;
/** How long the first record of a batch waits for others. */
const LINGER_S = 1;
const FLUSH_TIMEOUT_S = 30;
const CLOSE_TIMEOUT_S = 5;
const FIRST_DELAY_S = 0.5;
const MAX_DELAY_S = 30;
/** Somebody waits: a server that was away is asked again this soon. */
const FLUSH_DELAY_S = 0.5;
/** When the key or the address is wrong, which is nothing that a record can be blamed for, nor something to hammer on. */
const REFUSED_DELAY_S = 600;

/** What became of records. */
export interface Counters {
  /** Taken by the server. */
  readonly sent: number;
  /** Not decided yet; versions of one id are one. */
  readonly waiting: number;
  /** Lost: the queue was full or closed, or the process ended while the server was away. */
  readonly dropped: number;
  /** Bad, as the server or the encoder says. */
  readonly refused: number;
}

/** How long something may take. */
export interface TimeoutOptions {
  /** Seconds. */
  timeoutS?: number | undefined;
}

/** Keeps records and sends them; one for a client, made on its first use. Nothing of it throws. */
export class BackgroundQueue implements AsyncDisposable {
  readonly #http: Http;
  #waiting = new Map<string, Uint8Array<ArrayBuffer>>();
  #underWay: readonly Line[] = [];
  #bytes = 0;
  #sent = 0;
  #dropped = 0;
  #refused = 0;
  #failures = 0;
  #flushers = 0;
  #isClosed = false;
  #pump: Promise<void> | null = null;
  #abort = new AbortController();
  #wake: () => void = () => {};
  readonly #warned = new Set<string>();

  /** @internal */
  constructor(http: Http) {
    this.#http = http;
  }

  /** What became of records so far. */
  get counters(): Counters {
    const older = this.#underWay.filter(({ id }) => this.#waiting.has(id)).length;
    return { sent: this.#sent, waiting: this.#count - older, dropped: this.#dropped, refused: this.#refused };
  }

  /**
   * Keeps a record, to be sent soon. It is written as JSON at once, so changing it later changes nothing.
   *
   * @returns its id, made here if it has none.
   */
  enqueue(trajectory: Trajectory): string {
    try {
      const line = lineOf(trajectory);
      this.#keep(line);
      return line.id;
    } catch (error) {
      this.#refused++;
      this.#warn("refused", `a record cannot be written as JSON: ${String(error)}`);
      return typeof trajectory?.id === "string" ? trajectory.id : uuid();
    }
  }

  /**
   * Sends what waits.
   *
   * @returns whether nothing waits any more; false if it took longer than `timeoutS`, 30 by default.
   */
  async flush({ timeoutS = FLUSH_TIMEOUT_S }: TimeoutOptions = {}): Promise<boolean> {
    if (this.#pump === null) return true;
    this.#flushers++;
    this.#wake();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<false>((resolve) => (timer = setTimeout(resolve, timeoutS * 1000, false)));
    const isSent = await Promise.race([this.#pump.then(() => true), late]);
    clearTimeout(timer);
    this.#flushers--;
    return isSent;
  }

  /** Sends what waits, for `timeoutS` at most, 5 by default; what is left then, and what comes later, is dropped. */
  async close({ timeoutS = CLOSE_TIMEOUT_S }: TimeoutOptions = {}): Promise<void> {
    this.#isClosed = true;
    await this.flush({ timeoutS });
    await this.#abandon();
  }

  /** As {@link BackgroundQueue.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  async flushAtExit(timeoutS: number): Promise<void> {
    await this.flush({ timeoutS });
    await this.#abandon();
  }

  get #count(): number {
    return this.#waiting.size + this.#underWay.length;
  }

  #keep({ id, data }: Line): void {
    const growth = data.length - (this.#waiting.get(id)?.length ?? 0);
    const isFull = this.#count >= MAX_RECORDS && !this.#waiting.has(id);
    if (this.#isClosed || isFull || this.#bytes + growth > MAX_BYTES) {
      this.#dropped++;
      this.#warn("dropped", `a record is dropped: the queue is ${this.#isClosed ? "closed" : "full"}`);
      return;
    }
    this.#waiting.set(id, data);
    this.#bytes += growth;
    this.#pump ??= this.#run();
    if (this.#waiting.size >= BATCH_RECORDS && this.#failures === 0) this.#wake();
  }

  /** Sends until nothing waits. One of these runs at a time. */
  async #run(): Promise<void> {
    remember(this);
    await this.#pause(LINGER_S);
    while (this.#waiting.size > 0) {
      if (this.#abort.signal.aborted) {
        this.#dropWaiting();
        break;
      }
      const seconds = await this.#sendBatch();
      if (seconds > 0 && this.#waiting.size > 0) await this.#pause(this.#flushers > 0 ? FLUSH_DELAY_S : seconds);
    }
    this.#pump = null;
    forget(this);
  }

  /** Sends what goes into one request; the seconds to wait before the next. */
  async #sendBatch(): Promise<number> {
    const batch = this.#take();
    try {
      const options = { maxRetries: 0, signal: this.#abort.signal };
      return this.#settle(batch, await sendLines(this.#http, batch, options));
    } catch (error) {
      return this.#putBack(batch, error);
    }
  }

  #take(): Line[] {
    const batch: Line[] = [];
    let size = 0;
    for (const [id, data] of this.#waiting) {
      size += data.length;
      if (batch.length === BATCH_RECORDS || (batch.length > 0 && size > BATCH_BYTES)) break;
      batch.push({ id, data });
      this.#waiting.delete(id);
    }
    this.#underWay = batch;
    return batch;
  }

  #settle(batch: readonly Line[], results: readonly LineResult[]): number {
    const again = batch.filter((_, index) => isRetriedStatus(results[index]!.status));
    const refused = results.filter(({ error, status }) => error && !isRetriedStatus(status));
    this.#sent += batch.length - again.length - refused.length;
    this.#refused += refused.length;
    if (refused[0]) this.#warn("refused", `a record is refused: ${refused[0].error?.message}`);
    this.#release(batch, again);
    this.#failures = again.length > 0 ? this.#failures + 1 : 0;
    return again.length > 0 ? this.#delayS(null) : 0;
  }

  #putBack(batch: readonly Line[], error: unknown): number {
    this.#release(batch, batch);
    this.#failures++;
    if (this.#abort.signal.aborted) return 0;
    this.#warn("away", `records wait, since sending them fails: ${String(error)}`);
    if (error instanceof APIStatusError && !isWorthRetrying(error)) return REFUSED_DELAY_S;
    return this.#delayS(retryAfter(error));
  }

  /** The batch is not under way any more, and `again` of it waits as before, where no newer version does. */
  #release(batch: readonly Line[], again: readonly Line[]): void {
    const newer = this.#waiting;
    const kept = again.filter(({ id }) => !newer.has(id));
    this.#waiting = new Map([...kept.map(({ id, data }) => [id, data] as const), ...newer]);
    this.#bytes -= sizeOf(batch) - sizeOf(kept);
    this.#underWay = [];
  }

  #delayS(retryAfterS: number | null): number {
    const jitterS = Math.random() * Math.min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** this.#failures);
    return (retryAfterS ?? 0) + jitterS;
  }

  /** Waits, or until somebody flushes. */
  #pause(seconds: number): Promise<void> {
    if (this.#abort.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      // In Node it must not keep the process: what waits is seen to when the process has nothing else to do.
      (timer as { unref?: () => void }).unref?.();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Drops what could not be sent, ending what is under way. */
  async #abandon(): Promise<void> {
    if (this.#pump === null) return;
    this.#abort.abort();
    this.#wake();
    await this.#pump;
    this.#abort = new AbortController();
  }

  #dropWaiting(): void {
    this.#dropped += this.#waiting.size;
    this.#warn("lost", `${this.#waiting.size} records are lost, since they could not be sent in time`);
    for (const data of this.#waiting.values()) this.#bytes -= data.length;
    this.#waiting.clear();
  }

  /** Once of each kind: whoever reads the log is told, and not flooded. */
  #warn(kind: string, text: string): void {
    if (this.#warned.has(kind)) return;
    this.#warned.add(kind);
    console.warn(`trajectory-sdk: ${text}`);
  }
}

function sizeOf(lines: readonly Line[]): number {
  return lines.reduce((size, { data }) => size + data.length, 0);
}
