/**
 * Repair of a record that the server refuses because of single fields.
 *
 * The server names the path, the code and the reason of each problem. The value there is cut, made text or left out. Nothing here
 * knows the contract, so it also fits a server of another release.
 */
import type { ErrorProblem } from "./types.js";

/** How often a record is repaired. An answer may name only some of the problems. */
export const MAX_REPAIRS = 6;
/** Repairs that change the value at the path. Later ones leave out the field or phase around it. */
const EXACT_REPAIRS = 3;
/** Values of fields that a record cannot do without. */
const REQUIRED: Readonly<Record<string, unknown>> = { request_summary: "", phase_name: "unknown", phases: [] };
/** The code of a problem of one field, by Pydantic. Codes of errors are others. */
const NOT_TEXT = "string_type";
const GONE = Symbol("left out");

type Container = Record<string | number, unknown>;
type Place = [container: Container, key: string | number];

/** Changes `record` so that the server may accept it. Returns the problems that led to a change. */
export function repair(record: object, problems: readonly ErrorProblem[], attempt: number): ErrorProblem[] {
  const changed = problems.filter((problem) => repairOne(record as Container, problem, attempt));
  dropGone(record);
  return changed;
}

function repairOne(record: Container, problem: ErrorProblem, attempt: number): boolean {
  const found = placesOf(record, problem.path);
  const { missing } = found;
  let { places } = found;
  if (Object.hasOwn(REQUIRED, missing)) {
    const place = places.at(-1);
    const holder = place ? (place[0][place[1]] as Container) : record;
    holder[missing] = REQUIRED[missing];
    return true;
  }
  if (attempt >= EXACT_REPAIRS) places = places.slice(0, places[0]?.[1] !== "phases" ? 1 : attempt === MAX_REPAIRS - 1 ? 2 : 3);
  const place = places.at(-1);
  if (!place || place[0][place[1]] === GONE) return false;
  const [container, key] = place;
  const isExact = missing === "" && attempt < EXACT_REPAIRS;
  const value = isExact ? accepted(container[key], problem) : GONE;
  container[key] = value === GONE && Object.hasOwn(REQUIRED, key) ? REQUIRED[key] : value;
  return true;
}

/** Returns where a path leads, from the outermost value to the innermost, and its unknown rest. */
function placesOf(record: Container, path: string): { places: Place[]; missing: string } {
  const places: Place[] = [];
  let here: unknown = record;
  let rest = path;
  for (let step = stepOf(here, rest); step; step = stepOf(here, rest)) {
    places.push([here as Container, step.key]);
    here = (here as Container)[step.key];
    rest = rest.slice(step.length);
  }
  return { places, missing: rest.replace(/^\./, "") };
}

/** Returns the first key or index of a path, and its length in the path. */
function stepOf(here: unknown, rest: string): { key: string | number; length: number } | undefined {
  if (rest === "" || typeof here !== "object" || here === null) return undefined;
  if (Array.isArray(here)) {
    const found = /^\[(\d+)\]/.exec(rest);
    return found && Number(found[1]) < here.length ? { key: Number(found[1]), length: found[0].length } : undefined;
  }
  const dot = rest.startsWith(".") ? 1 : 0;
  // A key may contain a dot, so the longest one that fits is taken.
  const fitting = Object.keys(here).filter((key) => rest.startsWith(key, dot) && /^$|^[.[]/.test(rest.slice(dot + key.length)));
  const key = fitting.sort((one, other) => other.length - one.length)[0];
  return key === undefined ? undefined : { key, length: dot + key.length };
}

/** Returns the closest value that the server may accept. */
function accepted(value: unknown, { code, message }: ErrorProblem): unknown {
  const limit = /at most (\d+) (character|item)/.exec(message);
  if (limit?.[2] === "character" && typeof value === "string") return [...value].slice(0, Number(limit[1])).join("");
  if (limit?.[2] === "item" && Array.isArray(value)) return value.slice(0, Number(limit[1]));
  if (limit?.[2] === "item" && typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).slice(0, Number(limit[1])));
  }
  return code === NOT_TEXT && value !== null ? JSON.stringify(value) : GONE;
}

function dropGone(value: unknown): void {
  if (typeof value !== "object" || value === null) return;
  if (Array.isArray(value)) {
    const kept = value.filter((one) => one !== GONE);
    value.splice(0, value.length, ...kept);
  } else {
    for (const [key, one] of Object.entries(value)) if (one === GONE) delete (value as Container)[key];
  }
  for (const one of Object.values(value)) dropGone(one);
}
