import { beforeEach, expect, test, vi } from "vitest";
import { BadRequestError, type PhaseOptions, type Run, type RunOptions, type Trajectory } from "../src/index.js";
import { failure, Script, sent, takesAll } from "./script.js";

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
  const run = script.client().trajectories.run("Add auth", { background: false, ...options }, act);
  await run.then(() => {}, () => {});
  return sent(script).at(-1)!;
}

async function pass(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

test("a run has its phases with times, its totals and its options", async () => {
  const options: RunOptions = { request_type: "feature", project: "store", tags: ["a"], planned_phases: ["spec", "build"] };
  const record = await recorded(async (run) => {
    await pass(1_000);
    await run.phase("spec", { model: "small", agent: "writer" }, async (phase) => {
      phase.usage({ input_tokens: 100, output_tokens: 20, cost_usd: 0.1 });
      await pass(2_500);
    });
    run.skip("design", { reason: "small change" });
    await run.phase("build", async (phase) => {
      phase.usage({ cost_usd: 0.2 });
      await pass(500);
    });
  }, options);
  expect(record).toEqual({
    id: record.id,
    request_summary: "Add auth",
    ...options,
    started_at: "2026-11-25T00:00:00.000Z",
    ended_at: "2026-11-25T00:00:04.000Z",
    total_duration_ms: 4_000,
    total_cost_usd: 0.3,
    total_phases: 3,
    phases_skipped: 1,
    phases: [
      {
        phase_name: "spec",
        agent: "writer",
        model: "small",
        attempt: 1,
        input_tokens: 100,
        output_tokens: 20,
        cost_usd: 0.1,
        started_at: "2026-11-25T00:00:01.000Z",
        duration_ms: 2_500,
        outcome: "success",
      },
      { phase_name: "design", outcome: "skipped", skip_reason: "small change" },
      {
        phase_name: "build",
        attempt: 1,
        cost_usd: 0.2,
        started_at: "2026-11-25T00:00:03.500Z",
        duration_ms: 500,
        outcome: "success",
      },
    ],
  });
});

test("run and phase return the result of their function, also of a promise", async () => {
  const { trajectories } = script.client();
  expect(await trajectories.run("x", (run) => run.phase("spec", () => 7))).toBe(7);
  expect(await trajectories.run("x", {}, async (run) => run.phase("spec", {}, async () => "text"))).toBe("text");
});

test("an error thrown in a phase marks it as failed and is rethrown", async () => {
  const error = new RangeError("too far");
  const { trajectories } = script.client();
  const run = trajectories.run("x", { background: false }, (run) => run.phase("spec", () => Promise.reject(error)));
  await expect(run).rejects.toBe(error);
  const [record] = sent(script);
  expect(record).toMatchObject({ outcome: "failure", error: "RangeError: too far" });
  expect(record!.phases[0]).toMatchObject({ outcome: "failure", error: "RangeError: too far", duration_ms: 0 });
});

test("after a caught error of a phase the server derives the outcome of the run", async () => {
  const record = await recorded(async (run) => {
    await run.phase("build", () => Promise.reject(new Error("no"))).catch(() => {});
    await run.phase("build", () => {});
  });
  expect(record).not.toHaveProperty("outcome");
  expect(record.phases.map(({ outcome, attempt }) => [outcome, attempt])).toEqual([["failure", 1], ["success", 2]]);
});

test("a given attempt is kept, and a skipped phase is no attempt", async () => {
  const record = await recorded(async (run) => {
    run.skip("review");
    await run.phase("review", { attempt: 7 }, () => {});
    await run.phase("review", () => {});
  });
  expect(record.phases.map(({ attempt }) => attempt)).toEqual([undefined, 7, 2]);
});

test("parallel and nested phases are in the order of their start", async () => {
  const record = await recorded(async (run) => {
    const slow = run.phase("slow", async () => {
      await pass(100);
      await run.phase("inner", () => {});
    });
    await Promise.all([slow, run.phase("quick", () => {})]);
  });
  expect(record.phases.map(({ phase_name }) => phase_name)).toEqual(["slow", "quick", "inner"]);
  expect(record.phases.map(({ duration_ms }) => duration_ms)).toEqual([100, 0, 0]);
  expect(record.total_duration_ms).toBe(100);
});

test("usage adds up over calls, costs exactly, and missing values stay unknown", async () => {
  const record = await recorded((run) =>
    run.phase("spec", (phase) => {
      phase.usage({ input_tokens: 5, cost_usd: 0.1 });
      phase.usage({ input_tokens: 7, cached_input_tokens: 0, cost_usd: 0.2, output_tokens: null });
      phase.usage({});
    }),
  );
  expect(record.phases[0]).toMatchObject({ input_tokens: 12, cached_input_tokens: 0, cost_usd: 0.3 });
  expect(record.phases[0]).not.toHaveProperty("output_tokens");
  expect(record.phases[0]).not.toHaveProperty("reasoning_tokens");
});

test.each([NaN, Infinity, -1, "7" as unknown as number])("a cost or count of %s is ignored and logged", async (value) => {
  const record = await recorded((run) => run.phase("spec", (phase) => phase.usage({ cost_usd: value, input_tokens: value })));
  expect(record.phases[0]).not.toHaveProperty("cost_usd");
  expect(record.phases[0]).not.toHaveProperty("input_tokens");
  expect(record).not.toHaveProperty("total_cost_usd");
  expect(warn.mock.calls.length).toBe(2);
});

test("tools are listed once in order of first use, and steps are counted", async () => {
  const record = await recorded((run) =>
    run.phase("spec", (phase) => {
      for (const name of ["grep", "edit", "grep"]) phase.tool(name);
      phase.step();
      phase.step(3);
    }),
  );
  expect(record.phases[0]).toMatchObject({ tools_used: ["grep", "edit"], steps_taken: 4 });
});

test.each<[string, PhaseOptions, string[], object]>([
  ["once", { model: "a" }, ["b"], { model: "b", requested_model: "a" }],
  ["twice", { model: "a" }, ["b", "c"], { model: "c", requested_model: "a" }],
  ["with the first said", { model: "a", requested_model: "z" }, ["b"], { model: "b", requested_model: "z" }],
])("a fallback keeps the model that was asked for first: %s", async (_, options, models, expected) => {
  const record = await recorded((run) => run.phase("spec", options, (phase) => models.forEach((model) => phase.fallBackTo(model))));
  expect(record.phases[0]).toMatchObject(expected);
});

test("after a fallback from an unknown model requested_model is unknown", async () => {
  const record = await recorded((run) => run.phase("spec", (phase) => phase.fallBackTo("b")));
  expect(record.phases[0]).toMatchObject({ model: "b" });
  expect(record.phases[0]).not.toHaveProperty("requested_model");
});

test("a phase can fail without throwing", async () => {
  const record = await recorded(async (run) => {
    await run.phase("a", (phase) => phase.fail(new TypeError("no")));
    await run.phase("b", (phase) => phase.fail("in words"));
  });
  expect(record.phases.map(({ outcome, error }) => [outcome, error])).toEqual([
    ["failure", "TypeError: no"],
    ["failure", "in words"],
  ]);
});

test("set() overrides measured, computed and initial values", async () => {
  const record = await recorded(async (run) => {
    run.set({ total_cost_usd: 9, outcome: "partial", tests_passed: true, project: "other", total_duration_ms: null });
    await run.phase("spec", { model: "a" }, (phase) => {
      phase.usage({ cost_usd: 1, input_tokens: 3 });
      phase.set({ cost_usd: 2, outcome: "partial", model: "b", duration_ms: 77 });
    });
  }, { project: "store" });
  expect(record).toMatchObject({ total_cost_usd: 9, outcome: "partial", tests_passed: true, project: "other" });
  expect(record.total_duration_ms).toBeNull();
  expect(record.phases[0]).toMatchObject({ cost_usd: 2, outcome: "partial", model: "b", duration_ms: 77, input_tokens: 3 });
});

test("the totals use the values set on a phase", async () => {
  const record = await recorded((run) => run.phase("spec", (phase) => phase.set({ cost_usd: 2 })));
  expect(record.total_cost_usd).toBe(2);
});

test.each<[string, (run: Run) => unknown]>([
  ["of a run", (run) => run.set({ requestType: "x" } as object)],
  ["of a phase", (run) => run.phase("spec", (phase) => phase.set({ phase_name: "x" } as object))],
  ["when a phase begins", (run) => run.phase("spec", { modelUsed: "x" } as object, () => {})],
])("a field that the contract does not have is an error at the call: %s", async (_, act) => {
  await expect(script.client().trajectories.run("x", act)).rejects.toThrow(TypeError);
});

test("an unknown option of a run is an error", async () => {
  await expect(script.client().trajectories.run("x", { requestType: "x" } as object, () => {})).rejects.toThrow("requestType");
});

test("a feedback loop is recorded with its time", async () => {
  const record = await recorded(async (run) => {
    await pass(50);
    run.feedback("review", "build", { reason: "no tests" });
    run.feedback("review", "spec");
  });
  expect(record.feedback_loops).toEqual([
    { from_phase: "review", to_phase: "build", reason: "no tests", at: "2026-11-25T00:00:00.050Z" },
    { from_phase: "review", to_phase: "spec", at: "2026-11-25T00:00:00.050Z" },
  ]);
});

test("the text of an error is cut, without characters that the store refuses", async () => {
  const text = `a\0b\ud800${"😀".repeat(2_000)}`;
  const record = await recorded((run) => run.phase("spec", () => Promise.reject(new Error(text))));
  const { error } = record.phases[0]!;
  expect(error!.length).toBe(2_000);
  expect(error).toContain("a\ufffdb\ufffd😀");
  expect(error).not.toMatch(/\p{Surrogate}$|\0/u);
});

test("an error that cannot be converted to text is still recorded", async () => {
  const thrown = { toString: () => { throw new Error("no"); } };
  const record = await recorded((run) => run.phase("spec", () => Promise.reject(thrown as unknown as Error)));
  expect(record.phases[0]).toMatchObject({ outcome: "failure", error: "an error that cannot be converted to text" });
});

test("setting the clock back changes no duration", async () => {
  const record = await recorded((run) =>
    run.phase("spec", async () => {
      await pass(300);
      vi.setSystemTime(new Date("2026-11-24T00:00:00Z"));
    }),
  );
  expect(record).toMatchObject({ ended_at: "2026-11-25T00:00:00.300Z", total_duration_ms: 300 });
});

test("with progress, each phase and finally the whole run is recorded under one id", async () => {
  const record = await recorded(async (run) => {
    await run.phase("spec", () => pass(10));
    await run.phase("build", () => pass(10));
  }, { progress: true });
  const versions = sent(script);
  expect(new Set(versions.map(({ id }) => id)).size).toBe(1);
  expect(versions.map(({ phases, outcome, ended_at }) => [phases.length, outcome, ended_at !== undefined])).toEqual([
    [1, "unknown", false],
    [2, "unknown", false],
    [2, undefined, true],
  ]);
  expect(record).toEqual(versions.at(-1));
});

test("progress includes the known fields of a running phase", async () => {
  await recorded(async (run) => {
    await run.phase("outer", { model: "a" }, async () => run.phase("inner", () => {}));
  }, { progress: true });
  const outer = sent(script)[0]!.phases[0]!;
  expect(outer).toMatchObject({ phase_name: "outer", model: "a", started_at: "2026-11-25T00:00:00.000Z" });
  expect(outer).not.toHaveProperty("outcome");
  expect(outer).not.toHaveProperty("duration_ms");
});

test("versions of a run are recorded one after the other in order", async () => {
  let underWay = 0;
  const slow = new Script(async (asked) => {
    expect(++underWay).toBe(1);
    await pass(10);
    underWay--;
    return takesAll(asked);
  });
  await slow.client().trajectories.run("x", { background: false, progress: true }, (run) =>
    Promise.all([run.phase("a", () => {}), run.phase("b", () => {})]),
  );
  expect(sent(slow).at(-1)).toHaveProperty("ended_at");
});

test("calls after the end of a run are logged and not recorded", async () => {
  let late!: Run;
  await recorded((run) => void (late = run), { progress: true });
  late.skip("design");
  late.set({ tests_passed: true });
  late.feedback("a", "b");
  await late.phase("spec", () => {});
  expect(sent(script).length).toBe(1);
  expect(warn.mock.calls.length).toBe(5);
});

test("in the foreground a recording error is thrown, unless the run itself failed", async () => {
  const refusing = new Script(failure(400)).client();
  await expect(refusing.trajectories.run("x", { background: false }, () => 1)).rejects.toBeInstanceOf(BadRequestError);
  const own = new Error("the pipeline's");
  await expect(refusing.trajectories.run("x", { background: false }, () => Promise.reject(own))).rejects.toBe(own);
  expect(String(warn.mock.calls[0])).toContain("could not be recorded");
});

test("in the background the run is queued, and no error is thrown", async () => {
  const client = new Script(failure(400)).client();
  expect(await client.trajectories.run("x", () => 1)).toBe(1);
  expect(await client.trajectories.run("y", { metadata: { big: 1n, what: Symbol() } }, () => 2)).toBe(2);
  expect(client.queue.counters).toMatchObject({ waiting: 2, refused: 0, replaced: 1 });
});
