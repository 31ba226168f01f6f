/** Sending records: one as JSON, or many as NDJSON batches. */
import { PayloadTooLargeError, TrajectoryError } from "./errors.js";
import { type Http, JSON_TYPE, MERGE_PATCH_TYPE, NDJSON_TYPE, onePath, OUTCOMES_PATH, PATH } from "./http.js";
import type { Adjustments } from "./adjustments.js";
import { uuid } from "./ids.js";
import { MAX_REPAIRS, repair } from "./repair.js";
import type {
  ErrorProblem,
  LineResult,
  RecordedMany,
  RequestOptions,
  StoredTrajectory,
  Trajectory,
  TrajectoryPatch,
} from "./types.js";
import type { WarningLog } from "./warnings.js";

const MAX_LINES = 500;
const MAX_BYTES = 8 * 1024 * 1024;
/** Error code of a record that was not sent because it is not serializable as JSON. */
const NOT_SERIALIZABLE = "not_serializable";

/** Options of `record`. */
export interface RecordOptions extends RequestOptions {
  /** Also replace a stored version that has phases which this one lacks. Otherwise such a record is refused. */
  replace?: boolean | undefined;
}

/** Options of `update`. */
export interface UpdateOptions extends RequestOptions {
  /** The `revision` that the patch was made for. If the store has another one, the patch is refused. */
  ifMatch?: number | undefined;
}

/** How `recordMany` splits records into requests. */
export interface RecordManyOptions extends RecordOptions {
  /** Records per request, 500 by default. The server accepts 10,000. */
  maxLines?: number | undefined;
  /** Bytes per request, 8 MiB by default. The server accepts 16 MiB. A larger record is sent alone. */
  maxBytes?: number | undefined;
}

/** A serialized record, or a late outcome. */
export interface Line {
  id: string;
  isOutcome?: boolean;
  data: Uint8Array<ArrayBuffer>;
}

const BAD_REQUEST = 400;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Serializes a record, with a generated `id` if it has none, so that a retry is the same record.
 *
 * @throws TypeError, RangeError: a value is not serializable as JSON.
 */
export function lineOf(trajectory: Trajectory): Line {
  const id = trajectory.id ?? uuid();
  // The check costs a call per value. Without it, NaN would silently become null.
  return { id, data: encoder.encode(JSON.stringify({ ...trajectory, id }, finite)) };
}

export async function record(http: Http, log: WarningLog, trajectory: Trajectory, options?: RecordOptions): Promise<StoredTrajectory> {
  return recordLine(http, log, lineOf(trajectory), options);
}

export async function recordLine(http: Http, log: WarningLog, { data: body }: Line, options?: RecordOptions): Promise<StoredTrajectory> {
  const request = { method: "POST", path: PATH, query: replacing(options), body, contentType: JSON_TYPE } as const;
  return noted(log, await http.call<StoredTrajectory>({ ...request, signal: options?.signal }));
}

export async function update(
  http: Http,
  log: WarningLog,
  id: string,
  patch: TrajectoryPatch,
  { ifMatch, signal }: UpdateOptions = {},
): Promise<StoredTrajectory> {
  const body = encoder.encode(JSON.stringify(patch, finite));
  const request = { method: "PATCH", path: onePath(id), body, contentType: MERGE_PATCH_TYPE, ifMatch, signal } as const;
  return noted(log, await http.call<StoredTrajectory>(request));
}

function noted(log: WarningLog, stored: StoredTrajectory): StoredTrajectory {
  log.note(stored.id, stored.warnings);
  return stored;
}

function replacing(options: RecordOptions | undefined): object {
  return options?.replace ? { replace: 1 } : {};
}

export async function recordMany(
  http: Http,
  log: WarningLog,
  trajectories: Iterable<Trajectory> | AsyncIterable<Trajectory>,
  options: RecordManyOptions = {},
): Promise<RecordedMany> {
  const results: LineResult[] = [];
  try {
    for await (const batch of batches(trajectories, options, results)) {
      const answers = await sendLines(http, log, batch.map(({ line }) => line), options);
      batch.forEach(({ number }, index) => (results[number - 1] = { ...answers[index]!, line: number }));
    }
  } catch (error) {
    if (error instanceof TrajectoryError) error.recorded = recorded(results);
    throw error;
  }
  return recorded(results);
}

/** Options of a request of lines. */
export type SendOptions = RecordOptions & { maxRetries?: number };

/** Sends lines of one kind and returns their results in order. `line` of a result counts within its request. */
export async function sendLines(
  http: Http,
  log: WarningLog,
  lines: readonly Line[],
  options: SendOptions = {},
): Promise<LineResult[]> {
  const path = lines[0]?.isOutcome ? OUTCOMES_PATH : PATH;
  const request = { method: "POST", path, query: replacing(options), body: joined(lines), contentType: NDJSON_TYPE } as const;
  try {
    const response = await http.call<RecordedMany>({ ...request, signal: options.signal }, options.maxRetries);
    const results = lines.map(({ id }, index) => ({ ...response.results[index]!, id: response.results[index]!.id ?? id }));
    for (const { id, warnings } of results) log.note(id, warnings);
    return results;
  } catch (error) {
    if (!(error instanceof PayloadTooLargeError)) throw error;
    // A server may have a lower limit. Halving finds the lines that are too large alone, and the others are stored.
    if (lines.length === 1) return [tooLarge(lines[0]!, error)];
    const middle = lines.length >> 1;
    const first = await sendLines(http, log, lines.slice(0, middle), options);
    return [...first, ...(await sendLines(http, log, lines.slice(middle), options))];
  }
}

/** The server names the problems of at most this many refused lines of a request. */
const EXPLAINED_LINES = 100;

/** Like `sendLines`, but sends refused lines again whose problems the server has not named. */
async function sendExplained(
  http: Http,
  log: WarningLog,
  lines: readonly Line[],
  options: SendOptions,
): Promise<LineResult[]> {
  const results = await sendLines(http, log, lines, options);
  const unexplained = lines.flatMap((_, at) =>
    results[at]!.status === BAD_REQUEST && !results[at]!.error?.details?.length ? [at] : [],
  );
  for (let start = 0; start < unexplained.length; start += EXPLAINED_LINES) {
    const some = unexplained.slice(start, start + EXPLAINED_LINES);
    const answers = await sendLines(http, log, some.map((at) => lines[at]!), options);
    some.forEach((at, index) => (results[at] = answers[index]!));
  }
  return results;
}

/** Like `sendLines`, but sends a refused record again without the fields that the server refuses. */
export async function sendKeptLines(
  http: Http,
  log: WarningLog,
  lines: readonly Line[],
  options: SendOptions,
  adjustments: Adjustments,
): Promise<LineResult[]> {
  const results = await sendExplained(http, log, lines, options);
  const changes = new Map<number, ErrorProblem[]>();
  let current = new Map(lines.map((line, at) => [at, line]));
  for (let attempt = 0; attempt < MAX_REPAIRS; attempt++) {
    const again = new Map<number, Line>();
    for (const [at, line] of current) {
      const problems = results[at]!.status === BAD_REQUEST ? (results[at]!.error?.details ?? []) : [];
      const record = problems.length > 0 ? (JSON.parse(decoder.decode(line.data)) as object) : {};
      const changed = repair(record, problems, attempt);
      if (changed.length === 0) continue;
      again.set(at, { id: line.id, data: encoder.encode(JSON.stringify(record)) });
      changes.set(at, [...(changes.get(at) ?? []), ...changed]);
    }
    if (again.size === 0) break;
    const answers = await sendExplained(http, log, [...again.values()], options);
    [...again.keys()].forEach((at, index) => (results[at] = answers[index]!));
    current = again;
  }
  for (const [at, changed] of changes) if (!results[at]!.error) changed.forEach((problem) => adjustments.countLeftOut(problem));
  return results;
}

interface Numbered {
  number: number;
  line: Line;
}

/** Yields batches within the limits of lines and bytes. Adds records that are not serializable to `results`. */
async function* batches(
  trajectories: Iterable<Trajectory> | AsyncIterable<Trajectory>,
  { maxLines = MAX_LINES, maxBytes = MAX_BYTES }: RecordManyOptions,
  results: LineResult[],
): AsyncGenerator<Numbered[], void, undefined> {
  if (!(maxLines >= 1) || !(maxBytes >= 1)) throw new TypeError(`maxLines and maxBytes must be at least 1, got ${maxLines} and ${maxBytes}`);
  let batch: Numbered[] = [];
  let size = 0;
  let number = 0;
  for await (const trajectory of trajectories) {
    const line = lineOrResult(trajectory, ++number);
    if ("status" in line) {
      results[number - 1] = line;
      continue;
    }
    const bytes = line.data.length + 1;
    if (batch.length > 0 && (batch.length >= maxLines || size + bytes > maxBytes)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push({ number, line });
    size += bytes;
  }
  if (batch.length > 0) yield batch;
}

function lineOrResult(trajectory: Trajectory, number: number): Line | LineResult {
  try {
    return lineOf(trajectory);
  } catch (error) {
    // A toJSON of the caller may throw anything. The other records must still be sent.
    const message = `The record is not serializable as JSON: ${String(error).slice(0, 200)}`;
    const id = typeof trajectory?.id === "string" ? trajectory.id : null;
    return { line: number, id, status: 400, error: { type: "invalid_request_error", code: NOT_SERIALIZABLE, message } };
  }
}

export function finite(_key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError(`${value} is not a valid number in JSON`);
  return value;
}

function joined(lines: readonly Line[]): Uint8Array<ArrayBuffer> {
  const body = new Uint8Array(lines.reduce((size, { data }) => size + data.length + 1, 0));
  let at = 0;
  for (const { data } of lines) {
    body.set(data, at);
    at += data.length + 1;
    body[at - 1] = NEWLINE;
  }
  return body;
}

const NEWLINE = 10;

function tooLarge({ id }: Line, { code, message, status }: PayloadTooLargeError): LineResult {
  return { line: 1, id, status, error: { type: "invalid_request_error", code, message } };
}

function recorded(all: LineResult[]): RecordedMany {
  // After a failed request, the list may have gaps: records that are not serializable are refused ahead of it.
  const results = all.filter((result) => result !== undefined);
  const refused = results.filter((result) => result.error).length;
  return { accepted: results.length - refused, refused, results };
}
