/** Runs that go on under their id after a pause or an abort. */
import { NotFoundError } from "./errors.js";
import type { Phase, Trajectory } from "./types.js";

const MAX_REMEMBERED = 1_000;
const FLUSH_TIMEOUT_S = 5;
const INTERRUPTED: ReadonlySet<unknown> = new Set(["cancelled", "paused"]);

/** What was recorded of a run before. */
export interface Earlier {
  /** Whether there may be a record; `find` decides. */
  mayFind(id: string): boolean;
  /** Returns the record, or null if there is none. */
  find(id: string): Promise<Trajectory | null>;
  /** Keeps the record of a run if it was interrupted, and forgets it otherwise. */
  remember(record: Trajectory): void;
}

/** The last records of a client's runs that were interrupted. Bounded: the oldest go first. */
export class InterruptedRuns {
  readonly #records = new Map<string, Trajectory>();

  remember(record: Trajectory): void {
    const id = String(record.id);
    this.#records.delete(id);
    const last = new Map(record.phases.map(({ phase_name, outcome }) => [phase_name, outcome]));
    if (![...last.values()].some((outcome) => INTERRUPTED.has(outcome))) return;
    this.#records.set(id, record);
    if (this.#records.size > MAX_REMEMBERED) this.#records.delete(this.#records.keys().next().value!);
  }

  find(id: string): Trajectory | null {
    return this.#records.get(id) ?? null;
  }
}

/** Reads a run from the store, after the queue has sent its earlier record. */
export async function stored(
  id: string,
  flush: (options: { timeoutS: number }) => Promise<unknown>,
  retrieve: (id: string) => Promise<Trajectory>,
): Promise<Trajectory | null> {
  await flush({ timeoutS: FLUSH_TIMEOUT_S });
  try {
    return await retrieve(id);
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}

/** Returns the fields that a resumed run keeps, without what the recorder computes. */
export function carriedOver(record: Trajectory): Partial<Trajectory> {
  const { id: _1, phases: _2, feedback_loops: _3, outcome: _4, error: _5, ended_at: _6, total_phases: _7, ...rest } = record;
  const { total_duration_ms: _8, total_cost_usd: _9, phases_skipped: _10, ...kept } = rest;
  const fields: Record<string, unknown> = { ...kept };
  for (const name of ["recorded_at", "revision", "derived", "warnings"]) delete fields[name];
  return fields as Partial<Trajectory>;
}

/** Counts the attempts of a phase. A skip is none. */
export function attemptsOf(phases: readonly Phase[], name: string): number {
  return phases.filter(({ phase_name, outcome }) => phase_name === name && outcome !== "skipped").length;
}
