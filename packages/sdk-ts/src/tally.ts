/** What has arrived of an export. */
import { ExportBrokenError } from "./errors.js";
import { Sha256 } from "./sha256.js";

const NEWLINE = 10;
/** Ids of the last lines: where the last one is deleted meanwhile, an export goes on behind one before it. */
const MAX_REMEMBERED = 1_000;
/** Every line begins with its id, in the canonical form of a record; looking there saves reading all of it. */
const ID = /^\{"id":"([^"]{1,64})"/;
const ID_BYTES = 80;
const decoder = new TextDecoder();

/** Counts, hashes, and remembers where to go on. */
export class Tally {
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

  /** How many lines before the last an export can go on: to the beginning, or to the oldest line that is remembered. */
  get maxBack(): number {
    return this.count > this.#ids.length ? this.#ids.length - 1 : this.#ids.length;
  }

  /** The id of the line so many lines before the last; undefined before the first. */
  idBefore(back: number): string | undefined {
    return this.#ids.at(-1 - back);
  }

  /** The ids of so many lines, the last ones. */
  lastIds(back: number): ReadonlySet<string> {
    return new Set(back > 0 ? this.#ids.slice(-back) : []);
  }

  hex(): string {
    return this.#hash.hex();
  }
}

/** `lines` less those of which the id is known. */
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
  if (id === undefined) throw new ExportBrokenError("The export is broken: a line of it is no record.");
  return id;
}
