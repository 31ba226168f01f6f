import { APIConnectionError, ExportBrokenError, NotFoundError } from "./errors.js";
import { type Http, type HttpResponse, PATH } from "./http.js";
import { uuid } from "./ids.js";
import { ReceivedLines, without } from "./received.js";
import type { Exported, ExportParameters, ExportProgress, RequestOptions, StoredTrajectory } from "./types.js";

/** Options of an export. */
export interface ExportOptions extends RequestOptions {
  /** Called after each received part. */
  progress?: ((progress: ExportProgress) => void) | undefined;
}

const NEWLINE = 10;
const END = new TextEncoder().encode('{"end":');
const decoder = new TextDecoder();

/**
 * All trajectories that match the filters, in the order in which they reached the archive.
 *
 * Iterate it for records, or use {@link TrajectoryExport.stream} for bytes. Each starts a new export. A broken connection is
 * resumed as long as new records arrive. The end line of the server verifies count and hash.
 */
export class TrajectoryExport implements AsyncIterable<StoredTrajectory> {
  readonly #http: Http;
  readonly #parameters: ExportParameters;
  readonly #options: ExportOptions;
  #exported: Exported | null = null;

  /** @internal */
  constructor(http: Http, parameters: ExportParameters = {}, options: ExportOptions = {}) {
    this.#http = http;
    this.#parameters = parameters;
    this.#options = options;
  }

  /** Summary of the export, after it is complete and verified; null before. */
  get exported(): Exported | null {
    return this.#exported;
  }

  /**
   * Yields every record.
   *
   * @throws {@link ExportBrokenError} the received data does not match the end line.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StoredTrajectory, void, undefined> {
    for await (const lines of this.#lines()) {
      for (const line of decoder.decode(lines).split("\n")) {
        if (line) yield parsed(line) as StoredTrajectory;
      }
    }
  }

  /** Returns the received bytes as JSONL, without the end line. An error of the export is an error of the stream. */
  stream(): ReadableStream<Uint8Array> {
    const lines = this.#lines();
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { done, value } = await lines.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        async cancel() {
          await lines.return();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Yields groups of whole lines, across all resumed responses. */
  async *#lines(): AsyncGenerator<Uint8Array, void, undefined> {
    this.#exported = null;
    const all = new ReceivedLines();
    let failures = 0;
    let back = 0;
    for (let resumed = 0; ; resumed++) {
      const one = resumed > 0 ? new ReceivedLines() : all;
      const known = all.lastIds(back);
      try {
        for await (const part of this.#response(all.idBefore(back) ?? this.#parameters.after)) {
          if (!(part instanceof Uint8Array)) {
            this.#exported = verified(part, all, one);
            return;
          }
          one.add(part);
          const fresh = without(part, known);
          if (fresh.length === 0) continue;
          if (all !== one) all.add(fresh);
          failures = back = 0;
          this.#options.progress?.({ count: all.count, bytes: all.bytes, resumed });
          yield fresh;
        }
        throw new APIConnectionError("The connection broke before the end of the export.");
      } catch (error) {
        if (isLost(error) && back < all.maxBack) back = Math.min(all.maxBack, back * 2 || 1);
        else await this.#http.waitOrThrow(error, failures++, this.#http.config.maxRetries, this.#options.signal);
      }
    }
  }

  /** Yields the whole lines of one response, then the content of its end line. */
  async *#response(after: string | undefined): AsyncGenerator<Uint8Array | Exported, void, undefined> {
    const response = await this.#open(after);
    let rest: Uint8Array = new Uint8Array(0);
    for await (const part of response.parts()) {
      const bytes = concatenated(rest, part);
      const whole = bytes.lastIndexOf(NEWLINE) + 1;
      rest = bytes.subarray(whole);
      const lastLine = bytes.lastIndexOf(NEWLINE, whole - 2) + 1;
      const isEnd = whole > 0 && startsWith(bytes.subarray(lastLine, whole), END);
      const lines = bytes.subarray(0, isEnd ? lastLine : whole);
      if (lines.length > 0) yield lines;
      if (isEnd) yield endOf(bytes.subarray(lastLine, whole));
    }
  }

  #open(after: string | undefined): Promise<HttpResponse> {
    const query = { ...this.#parameters, after, end: 1 };
    return this.#http.open({ method: "GET", path: `${PATH}/export`, query, signal: this.#options.signal }, uuid());
  }
}

/** Whether the record after which to resume was deleted meanwhile. */
function isLost(error: unknown): boolean {
  return error instanceof NotFoundError && error.code === "invalid_cursor";
}

/** Returns the summary of the whole export, after checking the last response against its end line. */
function verified(endLine: Exported, all: ReceivedLines, one: ReceivedLines): Exported {
  const sha256 = one.hex();
  if (endLine.count !== one.count || endLine.sha256 !== sha256) {
    throw new ExportBrokenError(
      `The export is broken: received ${one.count} records with SHA-256 ${sha256}, ` +
        `but the server sent ${endLine.count} with ${endLine.sha256}.`,
    );
  }
  return { count: all.count, sha256: all === one ? sha256 : all.hex(), cursor: endLine.cursor };
}

function endOf(line: Uint8Array): Exported {
  return (parsed(decoder.decode(line)) as { end: Exported }).end;
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new ExportBrokenError("The export is broken: a line is not JSON.", { cause: error });
  }
}

function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  return start.every((byte, at) => bytes[at] === byte);
}

function concatenated(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
