import { APIConnectionError, BadRequestError, ExportBrokenError } from "./errors.js";
import { type Answer, type Http, PATH } from "./http.js";
import { uuid } from "./ids.js";
import { Tally, without } from "./tally.js";
import type { Exported, ExportParameters, ExportProgress, RequestOptions, StoredTrajectory } from "./types.js";

/** What an export takes beside its filters. */
export interface ExportOptions extends RequestOptions {
  /** Told after each part that has arrived. */
  progress?: ((progress: ExportProgress) => void) | undefined;
}

const NEWLINE = 10;
const END = new TextEncoder().encode('{"end":');
const decoder = new TextDecoder();

/**
 * Every trajectory that the filters find, in the order in which the archive first got them.
 *
 * Iterate it for records, or take {@link TrajectoryExport.stream} for the bytes; each begins anew. A cut is gone on behind, as
 * often as it gets further. At the end count and hash are compared with what the server says.
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

  /** What was exported, once all of it has arrived and agrees with the server's end line; null before. */
  get exported(): Exported | null {
    return this.#exported;
  }

  /**
   * Every record.
   *
   * @throws {@link ExportBrokenError} what arrived is not what was sent.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StoredTrajectory, void, undefined> {
    for await (const lines of this.#lines()) {
      for (const line of decoder.decode(lines).split("\n")) {
        if (line) yield parsed(line) as StoredTrajectory;
      }
    }
  }

  /** The lines as they came, without the end line: JSONL, ready for a file. An error of the export is an error of the stream. */
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

  /** Whole lines, some at a time, over all cuts. */
  async *#lines(): AsyncGenerator<Uint8Array, void, undefined> {
    this.#exported = null;
    const all = new Tally();
    let failures = 0;
    let back = 0;
    for (let resumed = 0; ; resumed++) {
      const one = resumed > 0 ? new Tally() : all;
      const known = all.lastIds(back);
      try {
        for await (const part of this.#answer(all.idBefore(back) ?? this.#parameters.after)) {
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
        throw new APIConnectionError("The export was cut before its end line.");
      } catch (error) {
        if (isLost(error) && back < all.maxBack) back = Math.min(all.maxBack, back * 2 || 1);
        else await this.#http.waitOrThrow(error, failures++, this.#http.config.maxRetries, this.#options.signal);
      }
    }
  }

  /** The lines of one answer, whole ones only, and what its end line says. */
  async *#answer(after: string | undefined): AsyncGenerator<Uint8Array | Exported, void, undefined> {
    const answer = await this.#open(after);
    let rest: Uint8Array = new Uint8Array(0);
    for await (const part of answer.parts()) {
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

  #open(after: string | undefined): Promise<Answer> {
    const query = { ...this.#parameters, after, end: 1 };
    return this.#http.open({ method: "GET", path: `${PATH}/export`, query, signal: this.#options.signal }, uuid());
  }
}

/** Whether the record to go on behind was deleted meanwhile. */
function isLost(error: unknown): boolean {
  return error instanceof BadRequestError && error.code === "invalid_cursor";
}

/** The whole export, if the last answer is what the server has sent. Of an answer that was cut only whole lines were kept. */
function verified(said: Exported, all: Tally, one: Tally): Exported {
  const sha256 = one.hex();
  if (said.count !== one.count || said.sha256 !== sha256) {
    throw new ExportBrokenError(
      `The export is broken: ${one.count} records with SHA-256 ${sha256} arrived, ` +
        `${said.count} with ${said.sha256} were sent.`,
    );
  }
  return { count: all.count, sha256: all === one ? sha256 : all.hex(), cursor: said.cursor };
}

function endOf(line: Uint8Array): Exported {
  return (parsed(decoder.decode(line)) as { end: Exported }).end;
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new ExportBrokenError("The export is broken: a line of it is not JSON.", { cause: error });
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
