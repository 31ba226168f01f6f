/** What the recorder measures, and what it lets pass. */
import type { Phase } from "./types.js";

const MAX_ERROR = 2_000;

/** One reading of the time of day; all else is counted from it, so a clock that is set meanwhile changes no duration. */
export class Stopwatch {
  readonly #startedAt = Date.now();
  readonly #from = performance.now();

  /** Since the start, to the microsecond, which is what the server keeps. */
  ms(): number {
    return microseconds(performance.now() - this.#from);
  }

  /** The time of day so long after the start, as RFC 3339. */
  at(ms: number): string {
    return new Date(this.#startedAt + ms).toISOString();
  }
}

/** Whether a field of a phase can be that much: a count, or a cost. */
export function isAmount(name: keyof Phase, value: unknown): value is number {
  return typeof value === "number" && value >= 0 && (name === "cost_usd" ? value < Infinity : Number.isInteger(value));
}

/** Without what is smaller. */
export function microseconds(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** "TypeError: text", bounded, without what the store refuses: NUL, and halves of surrogate pairs. */
export function textOf(error: unknown): string {
  try {
    return String(error).slice(0, MAX_ERROR).replace(/\0|\p{Surrogate}/gu, "\ufffd");
  } catch {
    return "an error that cannot be shown";
  }
}
