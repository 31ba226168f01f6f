/** The received lines of an export. */
import { ExportBrokenError } from "./errors.js";
import { Sha256 } from "./sha256.js";

const NEWLINE = 10;
/** Ids of the last lines. If the last record was deleted meanwhile, the export resumes after an earlier one. */
const MAX_REMEMBERED = 1_000;
/** In canonical form, a line starts with its id. Reading only its start avoids parsing the whole line. */
const ID = /^\{"id":"([^"]{1,64})"/;
const ID_BYTES = 80;
const decoder = new TextDecoder();

/** Counts and hashes received lines, and keeps the ids after which an export can resume. */
export class ReceivedLines {
  count = 0;
  bytes = 0;
  readonly #hash = new Sha256();
  #ids: string[] = [];

  add(lines: Uint8Array): void {
    for (const line of split(lines)) {
      this.count++;
      this.#ids.push(idOf(line));
    }
    if (this.#ids.length > 2 * MAX_REMEMBERED) this.#ids = this.#ids.slice(-MAX_REMEMBERED);
    this.bytes += lines.length;
    this.#hash.update(lines);
  }

  /** How many lines before the last one an export can resume: up to the beginning, or to the oldest id kept. */
  get maxBack(): number {
    return this.count > this.#ids.length ? this.#ids.length - 1 : this.#ids.length;
  }

  /** Returns the id of the line `back` lines before the last; undefined before the first line. */
  idBefore(back: number): string | undefined {
    return this.#ids.at(-1 - back);
  }

  /** Returns the ids of the last `back` lines. */
  lastIds(back: number): ReadonlySet<string> {
    return new Set(back > 0 ? this.#ids.slice(-back) : []);
  }

  hex(): string {
    return this.#hash.hex();
  }
}

/** Returns `lines` without those whose id is in `known`. */
export function without(lines: Uint8Array, known: ReadonlySet<string>): Uint8Array {
  if (known.size === 0) return lines;
  const fresh = [...split(lines)].filter((line) => !known.has(idOf(line)));
  const bytes = new Uint8Array(fresh.reduce((size, line) => size + line.length, 0));
  fresh.reduce((at, line) => (bytes.set(line, at), at + line.length), 0);
  return bytes;
}

function* split(lines: Uint8Array): Generator<Uint8Array, void, undefined> {
  for (let from = 0; from < lines.length; ) {
    const end = lines.indexOf(NEWLINE, from) + 1;
    yield lines.subarray(from, end);
    from = end;
  }
}

function idOf(line: Uint8Array): string {
  const id = ID.exec(decoder.decode(line.subarray(0, ID_BYTES)))?.[1];
  if (id === undefined) throw new ExportBrokenError("The export is broken: a line is not a record.");
  return id;
}
