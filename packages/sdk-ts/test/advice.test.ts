import { beforeEach, expect, test, vi } from "vitest";
import type { Recommendation, Trajectory } from "../src/index.js";
import { failure, json, Script, type SentRequest, takesAll } from "./script.js";

const RECORD = {
  model: "large",
  model_selection_method: "thompson-sampling",
  selection_rule: "recommendation",
  selection_probability: 0.25,
  candidates: [
    { model: "small", probability: 0.75 },
    { model: "large", probability: 0.25 },
  ],
  metadata: { "trajectories:recommendation": { id: "r", model: "large", escalate_to: null } },
};
const ANSWER = { recommendation_id: "r", record: RECORD } as unknown as Recommendation;
const CANDIDATES = [{ model: "small" }, { model: "large" }];

let warn: { mock: { calls: unknown[][] } };
beforeEach(() => {
  warn = vi.spyOn(console, "warn").mockImplementation(() => {});
});

/** Answers recommendations, and takes records. */
function answering(advice: () => Response | Error): Script {
  return new Script((asked: SentRequest) => {
    if (!asked.url.pathname.endsWith("/recommendations")) return takesAll(asked);
    const reply = advice();
    if (reply instanceof Error) throw reply;
    return reply;
  });
}

test("a recommendation is asked for with names or costs of candidates", async () => {
  const script = new Script(json(ANSWER));
  const answer = await script.client().recommendations.create("implement", ["small", { model: "large", cost_usd: 0.5 }], { seed: 3 });
  expect(answer).toEqual(ANSWER);
  expect(script.asked[0]).toMatchObject({ method: "POST" });
  expect(script.asked[0]!.url.pathname).toBe("/v1/agent/recommendations");
  expect(JSON.parse(script.asked[0]!.body)).toEqual({
    phase: "implement",
    candidates: [{ model: "small" }, { model: "large", cost_usd: 0.5 }],
    seed: 3,
  });
});

test("evaluations and alerts have their addresses", async () => {
  const script = new Script(json({ refusal: null }));
  await script.client().evaluations.create({ always: "large" }, { phase: "implement" });
  await script.client().alerts({ weeks: 2 });
  expect(script.asked.map(({ method, url }) => `${method} ${url.pathname}${url.search}`)).toEqual([
    "POST /v1/agent/evaluations",
    "GET /v1/agent/alerts?weeks=2",
  ]);
  expect(JSON.parse(script.asked[0]!.body)).toEqual({ policy: { always: "large" }, phase: "implement" });
});

test("a phase asks and records the decision by itself", async () => {
  const script = answering(() => json(ANSWER));
  await script.client().trajectories.run("Fix it", { background: false, request_type: "bugfix" }, async (run) => {
    await run.phase("plan", { model: "small" }, () => {});
    const options = { recommend: { budget_usd: 2 }, candidates: CANDIDATES, default: "small", metadata: { mine: 1 } };
    await run.phase("implement", options, (phase) => {
      expect(phase.model).toBe("large");
      expect(phase.recommendation).toEqual(ANSWER);
    });
  });
  expect(JSON.parse(script.asked[0]!.body)).toEqual({
    phase: "implement",
    candidates: CANDIDATES,
    request_type: "bugfix",
    phases: [{ phase_name: "plan", model: "small", outcome: "success" }],
    budget_usd: 2,
  });
  const record = JSON.parse(script.asked[1]!.body) as Trajectory;
  expect(record.phases[1]).toMatchObject({ ...RECORD, metadata: { ...RECORD.metadata, mine: 1 } });
});

test.each([
  ["status", () => failure(503)],
  ["connection", () => new TypeError("fetch failed")],
])("without an answer (%s) a phase goes on with the default", async (_name, reply) => {
  const script = answering(reply);
  await script.client().trajectories.run("Fix it", { background: false }, (run) =>
    run.phase("implement", { recommend: true, candidates: CANDIDATES, default: "small" }, (phase) => {
      expect([phase.model, phase.recommendation]).toEqual(["small", null]);
    }),
  );
  expect(script.asked).toHaveLength(2);
  const record = JSON.parse(script.asked[1]!.body) as Trajectory;
  expect(record.phases[0]).toMatchObject({ model: "small", selection_rule: "default", candidates: CANDIDATES });
  expect(record.phases[0]).not.toHaveProperty("selection_probability");
  expect(warn.mock.calls[0]![0]).toContain("goes on with small");
});

test("a phase that asks needs candidates and a default", async () => {
  const script = answering(() => json(ANSWER));
  await expect(
    script.client().trajectories.run("Fix it", { background: false }, (run) =>
      run.phase("implement", { recommend: true, candidates: CANDIDATES }, () => {}),
    ),
  ).rejects.toThrow("recommend needs candidates");
});
