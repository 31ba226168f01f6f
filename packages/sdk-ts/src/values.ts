/** Conversion of any value to the closest JSON that the store accepts. */
import { textOf } from "./totals.js";

/** The store accepts `metadata` of this depth. */
const MAX_DEPTH = 64;
/** Limit of values in one record. A structure that refers to one list many times is small in memory and endless as JSON. */
const MAX_VALUES = 200_000;
const TOO_LARGE = "structure that is too large or too deep";
/** From here on, numbers are written with an exponent, which the store reads as a fraction. */
const EXPONENT = 1e21;

/** Writes one record as the closest JSON. It never throws, and counts what it replaced by kind. */
export class ClosestJson {
  readonly replaced = new Map<string, number>();
  readonly #maxChars: number;
  readonly #open = new Set<object>();
  #left = MAX_VALUES;

  /** Longer texts are cut. */
  constructor(maxChars = Infinity) {
    this.#maxChars = maxChars;
  }

  /** Returns the JSON of a value; undefined stays undefined, as in `JSON.stringify`. */
  of(value: unknown, depth = 0): unknown {
    try {
      return this.#of(value, depth);
    } catch {
      // A getter, a toJSON or a proxy of the caller may throw anything.
      return this.count("object that cannot be read", textOf(value));
    }
  }

  /** Counts a replacement, and returns what is written. */
  count<T>(kind: string, written: T, times = 1): T {
    this.replaced.set(kind, (this.replaced.get(kind) ?? 0) + times);
    return written;
  }

  #of(value: unknown, depth: number): unknown {
    switch (typeof value) {
      case "string":
        return this.#text(value);
      case "number":
        return this.#number(value);
      case "bigint":
        return isExact(value) ? Number(value) : this.count("integer beyond 2**53 - 1", String(value));
      case "symbol":
      case "function":
        return this.count(typeof value, textOf(value));
      case "object":
        return value === null ? null : this.#object(value, depth);
      default:
        return value;
    }
  }

  #number(value: number): unknown {
    if (!Number.isFinite(value)) return this.count("NaN or infinity", null);
    const isInexact = Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < EXPONENT;
    return isInexact ? this.count("integer beyond 2**53 - 1", String(value)) : value;
  }

  #text(text: string): string {
    let written = text;
    // eslint-disable-next-line no-control-regex
    if (/\0|\p{Surrogate}/u.test(text)) written = this.count("text with NUL or lone surrogates", text.replace(/\0|\p{Surrogate}/gu, "\ufffd"));
    return written.length > this.#maxChars ? this.count("text that is too long", `${written.slice(0, this.#maxChars)}…`) : written;
  }

  #object(value: object, depth: number): unknown {
    if (this.#open.has(value)) return this.count("structure that contains itself", null);
    if (depth >= MAX_DEPTH || this.#left <= 0) return this.count(TOO_LARGE, "…");
    this.#open.add(value);
    try {
      return this.#container(value, depth);
    } finally {
      this.#open.delete(value);
    }
  }

  #container(value: object, depth: number): unknown {
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? this.count("invalid date", null) : value.toISOString();
    if (value instanceof Error) return this.count("error", this.#text(textOf(value)));
    if (value instanceof Map) return this.#fields(value, depth);
    if (value instanceof Set || Array.isArray(value)) return this.#list(value, depth);
    if (ArrayBuffer.isView(value)) return this.count("bytes", this.#text(new TextDecoder().decode(value)));
    if (value instanceof String || value instanceof Number || value instanceof Boolean) return this.of(value.valueOf(), depth);
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === "function") return this.of(toJSON.call(value), depth + 1);
    return this.#fields(Object.keys(value).map((key) => [key, this.#property(value, key)] as const), depth);
  }

  #property(value: object, key: string): unknown {
    try {
      return (value as Record<string, unknown>)[key];
    } catch (error) {
      return this.count("property that cannot be read", textOf(error));
    }
  }

  #fields(entries: Iterable<readonly [unknown, unknown]>, depth: number): object {
    // Without a prototype, so that the key __proto__ is one like others.
    const written = Object.create(null) as Record<string, unknown>;
    for (const [key, item] of entries) {
      if (!this.#take()) break;
      let name = this.#text(typeof key === "string" ? key : textOf(key));
      while (name in written) name = this.count("key", `${name}*`);
      written[name] = this.of(item, depth + 1);
    }
    return written;
  }

  #list(items: Iterable<unknown>, depth: number): unknown[] {
    const written: unknown[] = [];
    for (const item of items) {
      if (!this.#take()) break;
      written.push(this.of(item, depth + 1) ?? null);
    }
    return written;
  }

  #take(): boolean {
    if (--this.#left < 0) this.count(TOO_LARGE, null);
    return this.#left >= 0;
  }
}

function isExact(value: bigint): boolean {
  return value >= -BigInt(Number.MAX_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
}
