import { beforeEach, expect, test, vi } from "vitest";
import { type Run, type RunOptions, type RunPhase, type Trajectory } from "../src/index.js";
import { Script, sent, stored, takesAll } from "./script.js";

let script: Script;
let warn: { mock: { calls: unknown[][] } };

beforeEach(() => {
  vi.useFakeTimers({ now: new Date("2026-11-25T00:00:00Z") });
  warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  script = new Script(takesAll);
  return () => vi.useRealTimers();
});

/** Returns the record of a run that executes `act`, in the foreground. */
async function recorded(act: (run: Run) => unknown, options: RunOptions = {}): Promise<Trajectory> {
  await script.client().trajectories.run("Add auth", { background: false, ...options }, act);
  return sent(script).at(-1)!;
}

async function pass(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

test("a decision is recorded as it was given", async () => {
  const decision = {
    selection_rule: "cheapest",
    reasoning_effort: "low",
    candidates: [
      { model: "small", score: 0.8, probability: 1, eligible: true, score_parts: { price: 0.9 } },
      { model: "large", eligible: false, reason: "budget" },
    ],
    exploration: { strategy: "thompson-sampling", samples: 10_000, seed: 7 },
    keep_probability: 0.95,
  };
  const parent_id = "29243fa3-f296-5e3b-9266-7052b77cbfe9";
  const record = await recorded(async (run) => {
    await run.phase("implement", { model: "small", ...decision }, (phase) => {
      phase.usage({ cache_write_input_tokens: 7 });
      phase.set({ fit: "underpowered", evidence: { log: "run 7" } });
    });
    run.skip("review", { reason: "small change", selection_rule: "tiny", keep_probability: 0.25 });
  }, { policy: "router@3", parent_id });
  expect(record).toMatchObject({ policy: "router@3", parent_id });
  expect(record.phases[0]).toMatchObject({ ...decision, cache_write_input_tokens: 7, fit: "underpowered", evidence: { log: "run 7" } });
  expect(record.phases[0]).not.toHaveProperty("phase_id");
  expect(record.phases[1]).toMatchObject({ outcome: "skipped", selection_rule: "tiny", keep_probability: 0.25 });
});

test("a fallback loop records its attempts and the model that answered", async () => {
  const record = await recorded((run) =>
    run.phase("implement", async (phase) => {
      for (const model of ["large", "medium", "small"]) {
        try {
          return await phase.attempt(model, { reason: "escalation" }, async (attempt) => {
            await pass(1_000);
            attempt.usage({ input_tokens: 10, cost_usd: 0.1 });
            if (model === "large") throw new Error("later");
            return model;
          });
        } catch {
          continue;
        }
      }
      throw new Error("no model answered");
    }),
  );
  expect(record.phases[0]!.attempts).toEqual([
    { model: "large", outcome: "failure", error: "Error: later", cost_usd: 0.1, duration_ms: 1_000, reason: "escalation" },
    { model: "medium", outcome: "success", cost_usd: 0.1, duration_ms: 1_000, reason: "escalation" },
  ]);
  expect(record.phases[0]).toMatchObject({ requested_model: "large", model: "medium", cost_usd: 0.2, input_tokens: 20, outcome: "success" });
});

test("attempts may be given as they were, and may fail without throwing", async () => {
  const record = await recorded((run) =>
    run.phase("implement", { model: "large" }, async (phase) => {
      phase.attempt("large", { outcome: "failure", error: new TypeError("late"), cost_usd: 0.1, duration_ms: 5 });
      await phase.attempt("small", (attempt) => attempt.fail("no answer"));
    }),
  );
  expect(record.phases[0]!.attempts).toEqual([
    { model: "large", outcome: "failure", error: "TypeError: late", cost_usd: 0.1, duration_ms: 5 },
    { model: "small", outcome: "failure", error: "no answer", duration_ms: 0 },
  ]);
  expect(record.phases[0]).toMatchObject({ requested_model: "large", model: "small", cost_usd: 0.1 });
});

test("phases get ids when others refer to them", async () => {
  const record = await recorded(async (run) => {
    await run.phase("implement", async (whole) => {
      const lanes: RunPhase[] = [];
      for (const name of ["backend", "frontend"]) await run.phase(name, { parent: whole }, (lane) => void lanes.push(lane));
      run.skip("docs", { parent: whole });
      await run.phase("test", { depends_on: [...lanes, "lint-0"] }, () => {});
      run.feedback(lanes[1]!, "implement");
    });
    await run.phase("implement", { phase_id: "again" }, (again) => expect(again.id).toBe("again"));
  });
  expect(record.phases.map(({ phase_id, parent_phase_id, depends_on }) => [phase_id, parent_phase_id, depends_on])).toEqual([
    ["implement-1", undefined, undefined],
    ["backend-1", "implement-1", undefined],
    ["frontend-1", "implement-1", undefined],
    [undefined, "implement-1", undefined],
    [undefined, undefined, ["backend-1", "frontend-1", "lint-0"]],
    ["again", undefined, undefined],
  ]);
  expect(record.feedback_loops).toMatchObject([{ from_phase: "frontend", from_phase_id: "frontend-1", to_phase: "implement" }]);
  expect(record.feedback_loops![0]).not.toHaveProperty("to_phase_id");
});

test("ids of a run that goes on are new", async () => {
  const client = script.client();
  const id = "29243fa3-f296-5e3b-9266-7052b77cbfe9";
  const stopped = Object.assign(new Error("stop"), { name: "AbortError" });
  const part = (error?: Error) =>
    client.trajectories.run("Add auth", { id, background: false }, (run) =>
      run.phase("implement", (phase) => {
        expect(phase.id).toBe(phase.id);
        if (error) throw error;
      }),
    );
  await expect(part(stopped)).rejects.toBe(stopped);
  await part();
  const [first, second] = sent(script).at(-1)!.phases;
  expect(first!.phase_id).toBe("implement-1");
  expect(second!.phase_id).toMatch(/^implement-1-[0-9a-f-]{36}$/);
});

test("a phase that waits for a person says what it waits for", async () => {
  const wait = Object.assign(new Error("approve?"), { name: "GraphInterrupt" });
  const run = script.client().trajectories.run("Add auth", { background: false }, (one) => one.phase("approve", () => Promise.reject(wait)));
  await expect(run).rejects.toBe(wait);
  expect(sent(script).at(-1)!.phases[0]).toMatchObject({ outcome: "paused", status_reason: "GraphInterrupt: approve?" });
});

test("a phase may be a handle that ends once", async () => {
  const record = await recorded(async (run) => {
    const spec = run.startPhase("spec", { model: "large" });
    spec.usage({ input_tokens: 5 });
    await pass(20);
    await spec.end();
    await pass(20);
    await spec.end(new Error("late"));
    await run.startPhase("test").end(new Error("no"));
    {
      await using phase = run.startPhase("review");
      phase.step();
    }
  }, { progress: true });
  expect(record.phases).toMatchObject([
    { phase_name: "spec", model: "large", outcome: "success", duration_ms: 20, input_tokens: 5, attempt: 1 },
    { phase_name: "test", outcome: "failure", error: "Error: no" },
    { phase_name: "review", outcome: "success", steps_taken: 1 },
  ]);
  expect(sent(script).map(({ phases }) => phases.length)).toEqual([1, 2, 3, 3]);
});

test("the contradictions of an answer are logged once a run and code", async () => {
  const warnings = [{ path: "phases[0].model", code: "not_a_candidate", message: "It is not among the candidates." }];
  const client = new Script((asked) => {
    const record = JSON.parse(asked.body.split("\n")[0]!) as Trajectory;
    if (asked.headers.get("Content-Type") !== "application/x-ndjson") {
      return new Response(JSON.stringify({ ...stored({ id: "b", ...record }), warnings }));
    }
    return new Response(JSON.stringify({ accepted: 1, refused: 0, results: [{ line: 1, id: record.id, status: 201, revision: 1, warnings }] }));
  }).client();
  const found = await client.trajectories.record({ id: "a", request_summary: "x", phases: [] });
  expect(found.warnings).toEqual(warnings);
  await client.trajectories.record({ id: "a", request_summary: "x", phases: [] });
  await client.trajectories.update("b", { tests_passed: true });
  const many = await client.trajectories.recordMany([{ id: "c", request_summary: "x", phases: [] }]);
  expect(many.results[0]!.warnings).toEqual(warnings);
  const id = client.trajectories.enqueue({ request_summary: "x", phases: [] });
  await Promise.all([client.queue.flush(), pass(2_000)]);
  expect(warn.mock.calls.map(([text]) => /trajectory (\S+) contradicts itself at phases\[0\]\.model \(not_a_candidate\)/.exec(String(text))?.[1])).toEqual(
    ["a", "b", "c", id],
  );
});
