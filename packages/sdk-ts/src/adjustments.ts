/**
 * Changes to a record that the background makes so that the run is kept, with their counts.
 *
 * A value that JSON cannot hold becomes the closest JSON, phases beyond the limit are left out, and so are fields that the server
 * refuses. Each change is counted, and logged once a kind.
 */
import { isUuid, uuid } from "./ids.js";
import type { Line } from "./recording.js";
import { phaseOutcome, runTotals } from "./totals.js";
import type { ErrorProblem, Phase, Trajectory } from "./types.js";
import { ClosestJson } from "./values.js";

/** The store accepts records of at most this many phases. */
const MAX_PHASES = 200;
/** The store accepts records of at most this size, unless it is configured otherwise. */
const MAX_RECORD_BYTES = 1024 * 1024;
/** Key in `metadata`: how many phases were left out of a record. */
const PHASES_LEFT_OUT = "trajectories:phases_left_out";
/** Limits of each text, tried in turn until the record is small enough. */
const MAX_CHARS = [Infinity, 10_000, 500, 50];
const MAX_KINDS = 1_000;
const encoder = new TextEncoder();

/** Counts the changes, and logs the first of each kind. */
export class Adjustments {
  /** Values that were written as the closest JSON, and phases that were left out. */
  replaced = 0;
  /** Fields that the server refused. */
  leftOut = 0;
  readonly #logged = new Set<string>();

  /**
   * Returns the serialized record, whatever its values are.
   *
   * @throws TypeError: the trajectory is not an object.
   */
  line(trajectory: Trajectory): Line {
    let line: Line | undefined;
    let form = new ClosestJson();
    for (const maxChars of MAX_CHARS) {
      form = new ClosestJson(maxChars);
      line = lineOf(trajectory, form);
      if (line.data.length <= MAX_RECORD_BYTES) break;
    }
    for (const [kind, times] of form.replaced) {
      this.replaced += times;
      this.#logOnce(kind, `a record cannot hold all values as they are, so ${times} were changed: ${kind}`);
    }
    return line!;
  }

  /** Counts a field that the server refused. */
  countLeftOut({ path, message }: ErrorProblem): void {
    this.leftOut++;
    this.#logOnce(path.replaceAll(/\[\d+\]/g, "[]"), `the server refuses the field ${path}, so it is left out: ${message}`);
  }

  #logOnce(kind: string, text: string): void {
    if (this.#logged.has(kind) || this.#logged.size >= MAX_KINDS) return;
    this.#logged.add(kind);
    console.warn(`trajectories-sdk: ${text}. Further ones of this kind are counted only.`);
  }
}

function lineOf(trajectory: Trajectory, form: ClosestJson): Line {
  const fields = form.of(trajectory) as Trajectory;
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) throw new TypeError("a trajectory must be an object");
  const given = fields.id ?? null;
  const id = given === null ? uuid() : isUuid(given) ? given.toLowerCase() : form.count("id that is not a UUID", uuid());
  return { id, data: encoder.encode(JSON.stringify({ ...withinLimit(fields, form), id })) };
}

/** Returns the record with the first phases, and the totals of all. */
function withinLimit(fields: Trajectory, form: ClosestJson): Trajectory {
  const phases: unknown = fields.phases;
  if (!Array.isArray(phases) || phases.length <= MAX_PHASES) return fields;
  const leftOut = form.count("phase beyond the limit", phases.length - MAX_PHASES, phases.length - MAX_PHASES);
  const all = phases.filter((phase): phase is Phase => typeof phase === "object" && phase !== null);
  const known = Object.entries(fields).filter(([, value]) => value !== null);
  return {
    ...runTotals(all),
    outcome: phaseOutcome(all),
    ...(Object.fromEntries(known) as unknown as Trajectory),
    phases: phases.slice(0, MAX_PHASES) as Phase[],
    metadata: { ...fields.metadata, [PHASES_LEFT_OUT]: leftOut },
  };
}
