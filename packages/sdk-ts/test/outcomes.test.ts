import { beforeEach, expect, test, vi } from "vitest";
import type { LateOutcome } from "../src/index.js";
import { failure, json, Script, sent, type SentRequest, takesAll, trajectory } from "./script.js";

let warn: { mock: { calls: unknown[][] } };

beforeEach(() => {
  vi.useFakeTimers();
  warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  return () => vi.useRealTimers();
});

const RUN = "0196f0c6-0000-7000-8000-000000000001";
const MERGED: LateOutcome = { name: "merged", value: true, trajectory_id: RUN };

function paths({ asked }: Script): string[] {
  return asked.map(({ url }) => url.pathname);
}

function outcomes({ asked }: Script): LateOutcome[] {
  const bodies = asked.filter(({ url }) => url.pathname === "/v1/agent/outcomes").map(({ body }) => body);
  return bodies.flatMap((body) => body.trimEnd().split("\n").map((line) => JSON.parse(line) as LateOutcome));
}

test("a run records an outcome in the background, also of a phase and after its end", async () => {
  const script = new Script(takesAll);
  const { trajectories, queue } = script.client();
  const run = trajectories.start("Add auth");
  const phase = run.startPhase("spec");
  await phase.end();
  run.outcome("fit", "good_fit", { phase, evidence: { review: "r-1" } });
  await run.end();
  run.outcome("merged", false, { at: "2026-01-05T00:00:00Z", idempotency_key: "k" });
  expect(await queue.flush()).toBe(true);
  const [fit, merged] = outcomes(script);
  const { idempotency_key, ...known } = fit!;
  expect(known).toEqual({ name: "fit", value: "good_fit", trajectory_id: run.id, phase_id: phase.id, evidence: { review: "r-1" } });
  expect(idempotency_key).toMatch(/^[0-9a-f-]{36}$/);
  expect(merged).toEqual({ name: "merged", value: false, trajectory_id: run.id, at: "2026-01-05T00:00:00Z", idempotency_key: "k" });
  expect(queue.counters).toMatchObject({ sent: 3, waiting: 0, refused: 0 });
});

test("records and outcomes go to their own addresses, one request each", async () => {
  const script = new Script(takesAll);
  const client = script.client();
  for (let index = 0; index < 3; index++) {
    client.trajectories.enqueue(trajectory(`run ${index}`));
    client.outcomes.enqueue({ ...MERGED, value: index });
  }
  expect(client.queue.counters.waiting).toBe(6);
  await client.queue.flush();
  expect(paths(script)).toEqual(["/v1/agent/trajectories", "/v1/agent/outcomes"]);
  expect(outcomes(script).map(({ value }) => value)).toEqual([0, 1, 2]);
  expect(client.queue.counters).toMatchObject({ sent: 6, waiting: 0 });
});

test("an outcome that is sent again has the same idempotency key", async () => {
  const script = new Script(new TypeError("fetch failed"), failure(503), takesAll);
  const client = script.client();
  client.outcomes.enqueue(MERGED);
  await vi.advanceTimersByTimeAsync(60_000);
  const keys = new Set(sent(script).map((line) => (line as unknown as LateOutcome).idempotency_key));
  expect(script.asked.length).toBe(3);
  expect(keys.size).toBe(1);
  expect(client.queue.counters).toMatchObject({ sent: 1, waiting: 0 });
});

test("an outcome that the server refuses is counted, and no field of it is left out", async () => {
  const details = [{ path: "value", code: "value", message: "must be a word" }];
  const refuses = ({ body }: SentRequest) => {
    const lines = body.trimEnd().split("\n");
    const error = { type: "invalid_request_error", code: "invalid", message: "It is so.", details };
    return json({ accepted: 0, refused: lines.length, results: lines.map((_, index) => ({ line: index + 1, id: null, status: 400, error })) });
  };
  const script = new Script(refuses);
  const client = script.client();
  client.outcomes.enqueue(MERGED);
  client.outcomes.enqueue({ ...MERGED, value: NaN });
  await client.queue.flush();
  expect(script.asked.length).toBe(1);
  expect(client.queue.counters).toEqual({ sent: 0, waiting: 0, dropped: 0, refused: 2, replaced: 0, leftOut: 0 });
  expect(warn.mock.calls.join()).toContain("NaN is not a valid number in JSON");
});

test("a full server halves a request of outcomes", async () => {
  const script = new Script((asked) => (asked.body.trimEnd().includes("\n") ? failure(413, "body_too_large") : takesAll(asked)));
  const client = script.client();
  client.outcomes.enqueue(MERGED);
  client.outcomes.enqueue({ ...MERGED, name: "reverted" });
  await client.queue.flush();
  expect(paths(script)).toEqual(Array.from({ length: 3 }, () => "/v1/agent/outcomes"));
  expect(client.queue.counters.sent).toBe(2);
});
