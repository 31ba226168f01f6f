/** Whatever a caller records in the background, the run is kept. */
import { beforeEach, expect, test, vi } from "vitest";
import type { Run, Trajectory } from "../src/index.js";
import { json, Script, sent, takesAll, trajectory } from "./script.js";

let script: Script;
let warn: { mock: { calls: unknown[][] } };

beforeEach(() => {
  vi.useFakeTimers();
  warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  script = new Script(takesAll);
  return () => vi.useRealTimers();
});

const cycle: unknown[] = [1];
cycle.push(cycle);

const VALUES: [name: string, value: unknown, written: unknown, replaced: number][] = [
  ["Date", new Date("2026-01-05"), "2026-01-05T00:00:00.000Z", 0],
  ["Map", new Map<unknown, unknown>([["a", 1], [2, new Set([3])]]), { a: 1, "2": [3] }, 0],
  ["undefined in a list", [undefined, 1], [null, 1], 0],
  ["URL", new URL("http://a.example/"), "http://a.example/", 0],
  ["small bigint", 7n, 7, 0],
  ["key __proto__", JSON.parse('{"__proto__": {"a": 1}}'), JSON.parse('{"__proto__": {"a": 1}}'), 0],
  ["bigint", 2n ** 80n, String(2n ** 80n), 1],
  ["unsafe integer", 2 ** 60, "1152921504606847000", 1],
  ["NaN", NaN, null, 1],
  ["invalid Date", new Date(NaN), null, 1],
  ["NUL", "a\0b", "a\ufffdb", 1],
  ["lone surrogate", "a\ud800b", "a\ufffdb", 1],
  ["cycle", cycle, [1, null], 1],
  ["symbol", Symbol("s"), "Symbol(s)", 1],
  ["error", new TypeError("bad"), "TypeError: bad", 1],
  ["bytes", new Uint8Array([104, 105]), "hi", 1],
  ["toJSON that throws", { toJSON: () => { throw new Error("no"); } }, "[object Object]", 1],
  ["getter that throws", { get a() { throw new Error("no"); }, b: 1 }, { a: "Error: no", b: 1 }, 1],
  ["same keys", new Map<unknown, number>([[1, 1], ["1", 2]]), { "1": 1, "1*": 2 }, 1],
];

test.each(VALUES)("a value of the kind %s is kept", async (_name, value, written, replaced) => {
  const client = script.client();
  await client.trajectories.run("Add auth", { metadata: { it: value } }, () => {});
  await client.queue.flush();
  expect(JSON.stringify(sent(script)[0]!.metadata)).toBe(JSON.stringify({ it: written }));
  expect(client.queue.counters).toMatchObject({ sent: 1, refused: 0, replaced });
  expect(warn.mock.calls.length).toBe(replaced);
});

test("an object that refuses everything in any field keeps the run", async () => {
  const refuse = () => { throw new Error("no"); };
  const hostile = new Proxy({}, { get: refuse, ownKeys: refuse, getPrototypeOf: refuse, has: refuse }) as never;
  const client = script.client();
  await client.trajectories.run("Add auth", { source: hostile, tags: [hostile] }, (run) =>
    run.phase("spec", { model: hostile, candidates: hostile }, (phase) => {
      phase.usage({ input_tokens: hostile, cost_usd: hostile });
      phase.fail(hostile);
    }),
  );
  await client.queue.flush();
  expect(client.queue.counters).toMatchObject({ sent: 1, refused: 0 });
});

test("a run in the foreground is kept too", async () => {
  await script.client().trajectories.run("a\0b", { background: false, metadata: { n: NaN } }, () => {});
  expect(sent(script)[0]).toMatchObject({ request_summary: "a\ufffdb", metadata: { n: null } });
});

test("a structure that is endless as JSON is cut", () => {
  let shared: unknown[] = [];
  for (let depth = 0; depth < 40; depth++) shared = [shared, shared];
  const client = script.client();
  client.trajectories.enqueue({ ...trajectory(), metadata: { shared } });
  expect(client.queue.counters).toMatchObject({ waiting: 1, refused: 0 });
});

test("texts are cut where the record would be too large", async () => {
  const client = script.client();
  client.trajectories.enqueue({ ...trajectory(), metadata: { log: "x".repeat(2_000_000), note: "short" } });
  await client.queue.flush();
  expect(sent(script)[0]!.metadata).toEqual({ log: `${"x".repeat(10_000)}…`, note: "short" });
});

test("the first 200 phases are kept with the totals of all", async () => {
  const client = script.client();
  await client.trajectories.run("Add auth", { metadata: { own: 1 } }, async (run: Run) => {
    for (let index = 0; index < 250; index++) await run.phase(`phase ${index}`, (phase) => phase.usage({ cost_usd: 0.5 }));
    run.skip("last");
  });
  await client.queue.flush();
  const record = sent(script)[0]!;
  expect(record.phases.length).toBe(200);
  expect(record).toMatchObject({ total_phases: 251, phases_skipped: 1, total_cost_usd: 125, outcome: "success" });
  expect(record.metadata).toEqual({ own: 1, "trajectories:phases_left_out": 51 });
});

// --- Fields that the server refuses

/** Refuses lines by these problems, in turn; then takes all. */
function refuses(...problems: { path: string; code?: string; message?: string }[][]): Script {
  const replies = problems.map((details) =>
    json({ accepted: 0, refused: 1, results: [{ line: 1, status: 400, error: { type: "invalid_request_error", code: "invalid_input", message: "", details } }] }),
  );
  return new Script(...replies, takesAll);
}

const REPAIRS: [problem: { path: string; code?: string; message?: string }, sent: object, repaired: object][] = [
  [{ path: "source", code: "string_type" }, { source: 7 }, { source: "7" }],
  [{ path: "source", message: "String should have at most 2 characters" }, { source: "abc" }, { source: "ab" }],
  [{ path: "tags", message: "List should have at most 1 item after validation" }, { tags: ["a", "b"] }, { tags: ["a"] }],
  [{ path: "tags[1]" }, { tags: ["a", null, "b"] }, { tags: ["a", "b"] }],
  [{ path: "a.b[0]" }, { "a.b[0]": 1, source: "kept" }, { source: "kept" }],
  [{ path: "request_summary" }, { request_summary: null }, { request_summary: "" }],
  [{ path: "phases[0].phase_name" }, { phases: [{ model: "m" }] }, { phases: [{ model: "m", phase_name: "unknown" }] }],
  [{ path: "phases[0].candidates[0].model" }, { phases: [{ phase_name: "a", candidates: [{ score: 1 }] }] }, { phases: [{ phase_name: "a", candidates: [] }] }],
];

test.each(REPAIRS)("a refused field is mended or left out: %j", async (problem, fields, repaired) => {
  script = refuses([{ code: "x", message: "", ...problem }]);
  const client = script.client();
  client.trajectories.enqueue({ ...trajectory(), ...fields } as Trajectory);
  await client.queue.flush();
  const { id, ...last } = sent(script).at(-1)!;
  expect(id).toMatch(/-/);
  expect(last).toEqual({ ...trajectory(), ...repaired });
  expect(client.queue.counters).toMatchObject({ sent: 1, refused: 0, leftOut: 1 });
});

test("a refused probability is left out, named once, and the run is kept", async () => {
  const problem = [{ path: "phases[0].selection_probability", code: "less_than_equal", message: "Input should be at most 1" }];
  script = refuses(problem, problem);
  const client = script.client();
  for (let index = 0; index < 2; index++) {
    client.trajectories.enqueue({ ...trajectory(), phases: [{ phase_name: "spec", model: "m", selection_probability: 1.4 }] });
    await client.queue.flush();
  }
  expect(sent(script).at(1)!.phases).toEqual([{ phase_name: "spec", model: "m" }]);
  expect(client.queue.counters.sent).toBe(2);
  expect(warn.mock.calls.filter(([text]) => String(text).includes("selection_probability")).length).toBe(1);
});

test("a record that cannot be mended is refused", async () => {
  script = refuses(...Array.from({ length: 9 }, () => [{ path: "", code: "x", message: "" }]));
  const client = script.client();
  client.trajectories.enqueue(trajectory());
  await client.queue.flush();
  expect(client.queue.counters).toMatchObject({ sent: 0, refused: 1 });
  expect(script.asked.length).toBe(1);
});

// --- Ends of runs

function named(name: string): Error {
  return Object.assign(new Error("stop"), { name });
}

test.each([
  [new DOMException("stop", "AbortError"), "cancelled", "unknown"],
  [named("GraphInterrupt"), "paused", "unknown"],
  [named("GraphBubbleUp"), "paused", "unknown"],
  [named("ParentCommand"), "success", undefined],
  [named("TypeError"), "failure", "failure"],
])("an interruption is no failure: %s", async (error, phase, run) => {
  const client = script.client();
  const failed = client.trajectories.run("Add auth", (run) => run.phase("spec", () => Promise.reject(error)));
  await expect(failed).rejects.toBe(error);
  await client.queue.flush();
  expect(sent(script)[0]).toMatchObject({ phases: [{ outcome: phase }], ...(run && { outcome: run }) });
  expect(sent(script)[0]!.outcome).toBe(run);
});

test("a run of a handle is recorded once, at its end", async () => {
  const client = script.client();
  const run = client.trajectories.start("Add auth", { source: "handle" });
  await run.phase("spec", () => {});
  await run.end(new Error("bad"));
  await run.end();
  await client.queue.flush();
  expect(sent(script)).toMatchObject([{ id: run.id, source: "handle", outcome: "failure", error: "Error: bad", total_phases: 1 }]);
});

test("a run of a handle ends with its block", async () => {
  const client = script.client();
  {
    await using run = client.trajectories.start("Add auth");
    await run.phase("spec", () => {});
  }
  await client.queue.flush();
  expect(sent(script)).toMatchObject([{ total_phases: 1 }]);
});

// --- Runs that go on

const ID = "0c4f0a4e-55a5-4f0d-9f0a-1d2f3a4b5c6d";
const WHOLE = {
  id: ID,
  metadata: { a: 1, b: 2 },
  build_passed: true,
  total_phases: 3,
  total_cost_usd: 0.75,
  feedback_loops: [{ from_phase: "approve", to_phase: "spec" }],
  phases: [
    { phase_name: "spec", outcome: "success", attempt: 1 },
    { phase_name: "approve", outcome: "paused", attempt: 1 },
    { phase_name: "approve", outcome: "success", attempt: 2 },
  ],
};

async function pause(client: ReturnType<Script["client"]>): Promise<void> {
  const run = client.trajectories.run("Add auth", { id: ID, metadata: { a: 1 } }, async (run) => {
    await run.phase("spec", (phase) => phase.usage({ cost_usd: 0.5 }));
    run.feedback("approve", "spec");
    run.set({ build_passed: true });
    await run.phase("approve", () => Promise.reject(named("GraphInterrupt")));
  });
  await expect(run).rejects.toThrow("stop");
  await client.queue.flush();
}

async function goOn(client: ReturnType<Script["client"]>, options: object = {}): Promise<void> {
  const run = client.trajectories.start("Add auth", { id: ID, metadata: { b: 2 }, ...options });
  await run.phase("approve", (phase) => phase.usage({ cost_usd: 0.25 }));
  await run.end();
  await client.queue.flush();
}

test("a paused run goes on under its id", async () => {
  const client = script.client();
  await pause(client);
  await goOn(client);
  expect(sent(script).at(-1)).toMatchObject(WHOLE);
  expect(sent(script).at(-1)!.outcome).toBeUndefined();
});

test("another process goes on from what the store has", async () => {
  await pause(script.client());
  const [first] = sent(script);
  script = new Script(json({ ...first, recorded_at: "2026-11-25T00:00:00Z", revision: 1 }), takesAll);
  await goOn(script.client(), { resume: true });
  expect(JSON.parse(script.asked.at(-1)!.body)).toMatchObject(WHOLE);
  expect(script.asked.at(-1)!.body).not.toContain("revision");
});

test("a run to resume that the store lacks begins", async () => {
  script = new Script(json({ error: { type: "x", code: "not_found", message: "" } }, 404), takesAll);
  await goOn(script.client(), { resume: true });
  expect(JSON.parse(script.asked.at(-1)!.body)).toMatchObject({ id: ID, total_phases: 1 });
});

test("without the store the rest is a run of its own", async () => {
  script = new Script(json({ error: { type: "x", code: "forbidden", message: "" } }, 403), takesAll);
  await goOn(script.client(), { resume: true });
  const record = JSON.parse(script.asked.at(-1)!.body) as Trajectory;
  expect(record.id).not.toBe(ID);
  expect(record.metadata).toEqual({ b: 2, "trajectories:resumes": ID });
  await expect(goOn(new Script(json({}, 403)).client(), { resume: true, background: false })).rejects.toThrow();
});

test("a run that ended is recorded anew under its id", async () => {
  const client = script.client();
  await goOn(client);
  await goOn(client);
  expect(sent(script).at(-1)!.phases.length).toBe(1);
});

test("lines that a long answer leaves unexplained are sent again, and mended like the others", async () => {
  const problem = { path: "project", code: "string_type", message: "Input should be a valid string" };
  // The store explains the first 100 refused lines of a request only.
  script = new Script(({ body }) => {
    let refused = 0;
    const results = body.trimEnd().split("\n").map((text, index) => {
      const record = JSON.parse(text) as Trajectory;
      if (typeof record.project === "string") return { line: index + 1, id: record.id, status: 201, revision: 1 };
      const details = ++refused <= 100 ? { details: [problem] } : {};
      return { line: index + 1, status: 400, error: { type: "invalid_request_error", code: "invalid_input", message: "", ...details } };
    });
    return json({ accepted: results.length - refused, refused, results });
  });
  const client = script.client();
  for (let index = 0; index < 250; index++) client.trajectories.enqueue({ ...trajectory(), project: 7 } as unknown as Trajectory);
  await client.queue.flush();
  expect(client.queue.counters).toMatchObject({ sent: 250, refused: 0, leftOut: 250 });
  // All lines; the 150 unexplained ones, a hundred at a time; all lines mended.
  expect(script.asked.map(({ body }) => body.trimEnd().split("\n").length)).toEqual([250, 100, 50, 250]);
});
