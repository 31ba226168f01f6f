/** Log of the contradictions that the store finds in records. */
import type { RecordWarning } from "./types.js";

const MAX_REMEMBERED = 10_000;

/** Logs each code once for each run, which may be recorded many times. Bounded: the oldest codes are forgotten first. */
export class WarningLog {
  readonly #logged = new Set<string>();

  /** Logs the warnings of an answer that are new. */
  note(id: string | null | undefined, warnings: readonly RecordWarning[] | null | undefined): void {
    for (const { path, code, message } of warnings ?? []) {
      const key = `${id} ${code}`;
      if (this.#logged.has(key)) continue;
      this.#logged.add(key);
      if (this.#logged.size > MAX_REMEMBERED) this.#logged.delete(this.#logged.keys().next().value!);
      console.warn(`trajectories-sdk: trajectory ${id} contradicts itself${path && ` at ${path}`} (${code}): ${message}`);
    }
  }
}
