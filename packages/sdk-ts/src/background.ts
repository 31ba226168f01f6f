/**
 * The background queue. It takes records and late outcomes at once and sends them while the program continues.
 *
 * The queue is in memory, because browsers and edge runtimes have no disk. A killed process loses its unsent records.
 * A full queue drops new records and keeps the ones it has already taken.
 */
import { APIStatusError } from "./errors.js";
import { register, unregister } from "./exit.js";
import { type Http, isWorthRetrying, retryAfter } from "./http.js";
import { uuid } from "./ids.js";
import { Adjustments } from "./adjustments.js";
import { outcomeLine } from "./outcomes.js";
import { type Line, sendKeptLines, sendLines } from "./recording.js";
import { isRetriedStatus } from "./retries.js";
import type { LateOutcome, LineResult, Trajectory } from "./types.js";
import type { WarningLog } from "./warnings.js";

const MAX_RECORDS = 10_000;
const MAX_BYTES = 64 * 1024 * 1024;
const BATCH_RECORDS = 500;
const BATCH_BYTES = 1024 * 1024;
/** Longest time that the first record of a batch waits for more records. */
const LINGER_S = 1;
const FLUSH_TIMEOUT_S = 30;
const CLOSE_TIMEOUT_S = 5;
const FIRST_DELAY_S = 0.5;
const MAX_DELAY_S = 30;
/** Delay between attempts while a `flush` waits. */
const FLUSH_DELAY_S = 0.5;
/** Delay after an error that a retry does not fix, such as a wrong key or address. The records are kept. */
const REFUSED_DELAY_S = 600;

/** Numbers of records and late outcomes by result. */
export interface Counters {
  /** Accepted by the server. */
  readonly sent: number;
  /** Not sent yet, or without an answer. Versions of one id count as one. */
  readonly waiting: number;
  /** Lost: the queue was full or closed, or the process ended while the server was unavailable. */
  readonly dropped: number;
  /** Refused by the server, or not an object. */
  readonly refused: number;
  /** Values, not records: written as the closest JSON, because JSON or the store cannot hold them as they are. */
  readonly replaced: number;
  /** Fields, not records: left out because the server refused them, so that their runs are kept. */
  readonly leftOut: number;
}

/** The time limit of a call. */
export interface TimeoutOptions {
  /** Time limit in seconds. */
  timeoutS?: number | undefined;
}

/** Queue that sends records in the background. Each client has one, created on first use. Its methods never throw. */
export class BackgroundQueue implements AsyncDisposable {
  readonly #http: Http;
  readonly #log: WarningLog;
  #pending = new Map<string, Line>();
  #inFlight: readonly Line[] = [];
  #bytes = 0;
  #sent = 0;
  #dropped = 0;
  #refused = 0;
  #failures = 0;
  #flushers = 0;
  readonly #adjustments = new Adjustments();
  #isClosed = false;
  #pump: Promise<void> | null = null;
  #abort = new AbortController();
  #wake: () => void = () => {};
  readonly #warned = new Set<string>();

  /** @internal */
  constructor(http: Http, log: WarningLog) {
    this.#http = http;
    this.#log = log;
  }

  /** Numbers of records by result, so far. */
  get counters(): Counters {
    const superseded = this.#inFlight.filter(({ id }) => this.#pending.has(id)).length;
    const { replaced, leftOut } = this.#adjustments;
    return { sent: this.#sent, waiting: this.#count - superseded, dropped: this.#dropped, refused: this.#refused, replaced, leftOut };
  }

  /**
   * Adds a record to the queue. The record is serialized at once: later changes to the object have no effect. A value without a JSON
   * form is written as the closest JSON, and a field that the server refuses is left out; `counters` has their numbers.
   *
   * @returns the id of the record, generated if it has none.
   */
  enqueue(trajectory: Trajectory): string {
    try {
      const line = this.#adjustments.line(trajectory);
      this.#keep(line);
      return line.id;
    } catch (error) {
      this.#refused++;
      this.#warn("refused", `a record was refused: ${String(error)}`);
      return uuid();
    }
  }

  /** Adds a late outcome to the queue. It is serialized at once, and sent as it is. */
  enqueueOutcome(outcome: LateOutcome): void {
    try {
      this.#keep(outcomeLine(outcome));
    } catch (error) {
      this.#refused++;
      this.#warn("refused", `an outcome was refused: ${String(error)}`);
    }
  }

  /**
   * Sends all pending records.
   *
   * @returns true when no record is pending; false after `timeoutS` seconds, 30 by default.
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

  /** Sends pending records for at most `timeoutS` seconds, 5 by default. Then drops the rest and all later records. */
  async close({ timeoutS = CLOSE_TIMEOUT_S }: TimeoutOptions = {}): Promise<void> {
    this.#isClosed = true;
    await this.flush({ timeoutS });
    await this.#abandon();
  }

  /** Calls {@link BackgroundQueue.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** @internal */
  async flushAtExit(timeoutS: number): Promise<void> {
    await this.flush({ timeoutS });
    await this.#abandon();
  }

  get #count(): number {
    return this.#pending.size + this.#inFlight.length;
  }

  #keep(line: Line): void {
    const { id, data } = line;
    const growth = data.length - (this.#pending.get(id)?.data.length ?? 0);
    const isFull = this.#count >= MAX_RECORDS && !this.#pending.has(id);
    if (this.#isClosed || isFull || this.#bytes + growth > MAX_BYTES) {
      this.#dropped++;
      this.#warn("dropped", `a record was dropped because the queue is ${this.#isClosed ? "closed" : "full"}`);
      return;
    }
    this.#pending.set(id, line);
    this.#bytes += growth;
    this.#pump ??= this.#run();
    if (this.#pending.size >= BATCH_RECORDS && this.#failures === 0) this.#wake();
  }

  /** Sends until no record is pending. Runs once at a time. */
  async #run(): Promise<void> {
    register(this);
    await this.#pause(LINGER_S);
    while (this.#pending.size > 0) {
      if (this.#abort.signal.aborted) {
        this.#dropPending();
        break;
      }
      const seconds = await this.#sendBatch();
      if (seconds > 0 && this.#pending.size > 0) await this.#pause(this.#flushers > 0 ? FLUSH_DELAY_S : seconds);
    }
    this.#pump = null;
    unregister(this);
  }

  /** Sends one batch. Returns the seconds to wait before the next one. */
  async #sendBatch(): Promise<number> {
    const batch = this.#take();
    try {
      const options = { maxRetries: 0, signal: this.#abort.signal };
      // An outcome without the field that the server refuses would be another outcome.
      const results = batch[0]!.isOutcome
        ? await sendLines(this.#http, this.#log, batch, options)
        : await sendKeptLines(this.#http, this.#log, batch, options, this.#adjustments);
      return this.#settle(batch, results);
    } catch (error) {
      return this.#putBack(batch, error);
    }
  }

  /** Takes the oldest line, and those of its kind that fit into one request. */
  #take(): Line[] {
    const batch: Line[] = [];
    let size = 0;
    for (const line of this.#pending.values()) {
      if (batch[0] && batch[0].isOutcome !== line.isOutcome) continue;
      size += line.data.length;
      if (batch.length === BATCH_RECORDS || (batch.length > 0 && size > BATCH_BYTES)) break;
      batch.push(line);
      this.#pending.delete(line.id);
    }
    this.#inFlight = batch;
    return batch;
  }

  #settle(batch: readonly Line[], results: readonly LineResult[]): number {
    const again = batch.filter((_, index) => isKept(results[index]!));
    const refused = results.filter((result) => result.error && !isKept(result));
    this.#sent += batch.length - again.length - refused.length;
    this.#refused += refused.length;
    if (refused[0]) this.#warn("refused", `a record was refused: ${refused[0].error?.message}`);
    this.#release(batch, again);
    this.#failures = again.length > 0 ? this.#failures + 1 : 0;
    return again.length > 0 ? this.#delayS(null) : 0;
  }

  #putBack(batch: readonly Line[], error: unknown): number {
    this.#release(batch, batch);
    this.#failures++;
    if (this.#abort.signal.aborted) return 0;
    this.#warn("away", `records cannot be sent and stay in the queue: ${String(error)}`);
    if (error instanceof APIStatusError && !isWorthRetrying(error)) return REFUSED_DELAY_S;
    return this.#delayS(retryAfter(error));
  }

  /** Ends the batch in flight and puts `again` back into the queue, except for ids with a newer version there. */
  #release(batch: readonly Line[], again: readonly Line[]): void {
    const newer = this.#pending;
    const kept = again.filter(({ id }) => !newer.has(id));
    this.#pending = new Map([...kept.map((line) => [line.id, line] as const), ...newer]);
    this.#bytes -= sizeOf(batch) - sizeOf(kept);
    this.#inFlight = [];
  }

  #delayS(retryAfterS: number | null): number {
    const jitterS = Math.random() * Math.min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** this.#failures);
    return (retryAfterS ?? 0) + jitterS;
  }

  /** Waits for some seconds, or until a call to `flush`. */
  #pause(seconds: number): Promise<void> {
    if (this.#abort.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      // The timer must not keep a Node process alive: exit.ts sends pending records before the process ends.
      (timer as { unref?: () => void }).unref?.();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Aborts the request in flight and drops all pending records. */
  async #abandon(): Promise<void> {
    if (this.#pump === null) return;
    this.#abort.abort();
    this.#wake();
    await this.#pump;
    this.#abort = new AbortController();
  }

  #dropPending(): void {
    this.#dropped += this.#pending.size;
    this.#warn("lost", `${this.#pending.size} records are lost because they could not be sent in time`);
    this.#bytes -= sizeOf([...this.#pending.values()]);
    this.#pending.clear();
  }

  /** Logs the first warning of each kind only, so that the log is not flooded. */
  #warn(kind: string, text: string): void {
    if (this.#warned.has(kind)) return;
    this.#warned.add(kind);
    console.warn(`trajectories-sdk: ${text}`);
  }
}

function sizeOf(lines: readonly Line[]): number {
  return lines.reduce((size, { data }) => size + data.length, 0);
}

/** Whether the line of a result is sent again. A full tenant may get room. */
function isKept({ status, error }: LineResult): boolean {
  return isRetriedStatus(status) || error?.code === "quota_exceeded";
}
