/** Durations, amounts and totals of a run. */
import { DecimalSum } from "./decimals.js";
import type { Outcome, Phase, Trajectory } from "./types.js";

const MAX_ERROR = 2_000;

/** Reads the time of day once and counts from there, so that setting the clock changes no duration. */
export class Stopwatch {
  readonly #startedAt = Date.now();
  readonly #from = performance.now();

  /** Returns the milliseconds since the start, to the microsecond, as the server stores them. */
  ms(): number {
    return microseconds(performance.now() - this.#from);
  }

  /** Returns the time of day `ms` milliseconds after the start, as RFC 3339. */
  at(ms: number): string {
    return new Date(this.#startedAt + ms).toISOString();
  }
}

/** Whether a value is a valid count, or a valid cost for `cost_usd`. */
export function isAmount(name: keyof Phase, value: unknown): value is number {
  return typeof value === "number" && value >= 0 && (name === "cost_usd" ? value < Infinity : Number.isInteger(value));
}

/** Rounds milliseconds to the microsecond. */
export function microseconds(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** Returns "TypeError: text", cut to 2,000 characters, without what the store refuses: NUL and lone surrogates. */
export function textOf(error: unknown): string {
  try {
    return String(error).slice(0, MAX_ERROR).replace(/\0|\p{Surrogate}/gu, "\ufffd");
  } catch {
    return "an error that cannot be converted to text";
  }
}

/** Returns the outcome that the store derives from the last attempt of each phase. */
export function phaseOutcome(phases: readonly Phase[]): Outcome {
  const last = new Map(phases.map(({ phase_name, outcome }) => [String(phase_name).trim().toLowerCase(), outcome]));
  const ran = [...last.values()].filter((outcome) => outcome !== "skipped");
  if (ran.includes("failure")) return "failure";
  return ran.length > 0 && ran.every((outcome) => outcome === "success") ? "success" : "unknown";
}

/** Errors of LangGraph that wait for a person. This package does not import it, so it goes by their names. */
const PAUSES = new Set(["GraphInterrupt", "NodeInterrupt", "GraphBubbleUp"]);
/** The error with which LangGraph continues in another graph. */
const JUMP = "ParentCommand";
const CANCELLATIONS = new Set(["AbortError", "CancelledError", "CanceledError"]);

/** Returns the outcome of a phase that ended by this error: `cancelled` if it was aborted, `paused` if it waits for a person. */
export function outcomeOf(thrown: unknown): "success" | "failure" | "cancelled" | "paused" {
  const name = nameOf(thrown);
  if (name === JUMP) return "success";
  return CANCELLATIONS.has(name) ? "cancelled" : PAUSES.has(name) ? "paused" : "failure";
}

function nameOf(thrown: unknown): string {
  try {
    return String((thrown as { name?: unknown } | null)?.name);
  } catch {
    return "";
  }
}

/** Returns the totals of a run, from its phases. */
export function runTotals(phases: readonly Phase[]): Partial<Trajectory> {
  const costs = phases.map(({ cost_usd }) => cost_usd).filter((cost) => isAmount("cost_usd", cost));
  const sum = new DecimalSum();
  for (const cost of costs) sum.add(cost);
  return {
    total_phases: phases.length,
    phases_skipped: phases.filter(({ outcome }) => outcome === "skipped").length,
    ...(costs.length > 0 && { total_cost_usd: sum.toNumber() }),
  };
}
