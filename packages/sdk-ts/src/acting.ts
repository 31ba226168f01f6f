/** Functions that run as a part of a recorded run, and what of them is recorded. */
import { outcomeOf, textOf } from "./totals.js";
import type { Phase } from "./types.js";

/** Returns what is recorded of a run, phase or attempt that ended by a thrown value. */
export function ended({ thrown }: Failure): Pick<Phase, "error" | "status_reason"> & { outcome: ReturnType<typeof outcomeOf> } {
  const outcome = outcomeOf(thrown);
  // A pause is no error, and neither is a jump to another graph.
  if (outcome === "paused") return { outcome, status_reason: textOf(thrown) };
  return outcome === "success" ? { outcome } : { outcome, error: textOf(thrown) };
}

/** A thrown value, of any type. */
export interface Failure {
  thrown: unknown;
}

/** Returns the result of `act` after calling `end`. Rethrows an error of `act`, even if `end` fails too. */
export async function runThenEnd<T>(
  act: () => T | PromiseLike<T>,
  end: (failure: Failure | null) => Promise<void>,
): Promise<T> {
  let value: T;
  try {
    value = await act();
  } catch (thrown) {
    await end({ thrown }).catch((error: unknown) => {
      console.warn(`trajectories-sdk: a failed run could not be recorded: ${textOf(error)}`);
    });
    throw thrown;
  }
  await end(null);
  return value;
}

/** Arguments with optional options and a function. */
export type Given<Options, Subject, T> =
  | [act: (subject: Subject) => T | PromiseLike<T>]
  | [options: Options, act: (subject: Subject) => T | PromiseLike<T>];

export function splitArguments<Options extends object, Subject, T>(
  given: Given<Options, Subject, T>,
): [Partial<Options>, (subject: Subject) => T | PromiseLike<T>] {
  return given.length === 1 ? [{}, given[0]] : given;
}

/** Returns the fields that are neither null nor undefined. */
export function withoutNulls<Fields extends object>(fields: Fields): { [Name in keyof Fields]: NonNullable<Fields[Name]> } {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(given) as { [Name in keyof Fields]: NonNullable<Fields[Name]> };
}

/** @throws TypeError: a field is not among `names`. */
export function checkNames(fields: object, names: object): void {
  const unknown = Object.keys(fields).find((name) => !Object.hasOwn(names, name));
  if (unknown !== undefined) throw new TypeError(`Unknown field ${JSON.stringify(unknown)}. Put your own data into metadata.`);
}
