import { beforeEach, expect, test, vi } from "vitest";
import type { Trajectory } from "../src/index.js";
import { failure, json, Script, sent, takesAll, trajectory } from "./script.js";

let warn: { mock: { calls: unknown[][] } };

beforeEach(() => {
  vi.useFakeTimers();
  warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  return () => vi.useRealTimers();
});

const AWAY = new TypeError("fetch failed");

function warned(): string {
  return warn.mock.calls.join("\n");
}

test("queued records are sent together without a flush", async () => {
  const script = new Script(takesAll);
  const { trajectories, queue } = script.client();
  for (let index = 0; index < 20; index++) trajectories.enqueue(trajectory(`run ${index}`));
  expect(queue.counters).toEqual({ sent: 0, waiting: 20, dropped: 0, refused: 0, replaced: 0, leftOut: 0 });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(queue.counters).toEqual({ sent: 20, waiting: 0, dropped: 0, refused: 0, replaced: 0, leftOut: 0 });
  expect(script.asked.length).toBe(1);
  expect(sent(script).map(({ request_summary }) => request_summary)).toEqual(Array.from({ length: 20 }, (_, index) => `run ${index}`));
});

test("flush sends at once and returns true", async () => {
  const { trajectories, queue } = new Script(takesAll).client();
  expect(await queue.flush()).toBe(true);
  trajectories.enqueue(trajectory());
  expect(await queue.flush()).toBe(true);
  expect(queue.counters.sent).toBe(1);
});

test("changing an object after enqueue does not change its record", async () => {
  const script = new Script(takesAll);
  const { trajectories, queue } = script.client();
  const record = trajectory("before");
  trajectories.enqueue(record);
  record.request_summary = "after";
  await queue.flush();
  expect(sent(script)[0]!.request_summary).toBe("before");
});

test("of several pending versions of one id only the last is sent", async () => {
  const script = new Script(takesAll);
  const { trajectories, queue } = script.client();
  const id = trajectories.enqueue(trajectory("first"));
  trajectories.enqueue({ ...trajectory("second"), id });
  expect(queue.counters.waiting).toBe(1);
  await queue.flush();
  expect(sent(script)).toEqual([{ ...trajectory("second"), id }]);
});

test("a version enqueued while an older one is in flight is sent after it", async () => {
  let id = "";
  const script = new Script(
    async (asked) => {
      trajectories.enqueue({ ...trajectory("second"), id });
      return takesAll(asked);
    },
    takesAll,
  );
  const { trajectories, queue } = script.client();
  id = trajectories.enqueue(trajectory("first"));
  await queue.flush();
  expect(sent(script).map(({ request_summary }) => request_summary)).toEqual(["first", "second"]);
});

test("a newer version replaces an older one that could not be sent", async () => {
  let id = "";
  const script = new Script(() => {
    trajectories.enqueue({ ...trajectory("second"), id });
    throw AWAY;
  }, takesAll);
  const { trajectories, queue } = script.client();
  id = trajectories.enqueue(trajectory("first"));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(script.asked.slice(1).flatMap(({ body }) => body.trimEnd().split("\n")).length).toBe(1);
  expect(queue.counters).toEqual({ sent: 1, waiting: 0, dropped: 0, refused: 0, replaced: 0, leftOut: 0 });
});

test("records stay pending while the server is unavailable and are sent afterwards", async () => {
  const script = new Script(AWAY, AWAY, failure(503), failure(429), takesAll);
  const { trajectories, queue } = script.client();
  trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(1_000);
  expect(queue.counters).toMatchObject({ sent: 0, waiting: 1 });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(queue.counters).toMatchObject({ sent: 1, waiting: 0 });
  expect(script.asked.length).toBe(5);
  expect(warn.mock.calls.length).toBe(1);
});

test("an unavailable server gets about two requests a minute", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.999);
  const script = new Script(AWAY);
  script.client().trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(10 * 60_000);
  expect(script.asked.length).toBeLessThan(30);
});

test("the queue waits for the Retry-After of the server", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const script = new Script(failure(503, "busy", { "Retry-After": "20" }), takesAll);
  script.client().trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(1_000 + 19_999);
  expect(script.asked.length).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(script.asked.length).toBe(2);
});

test("flush returns false after its timeout and keeps the records", async () => {
  const { trajectories, queue } = new Script(AWAY).client();
  trajectories.enqueue(trajectory());
  const flushed = queue.flush({ timeoutS: 3 });
  await vi.advanceTimersByTimeAsync(3_000);
  expect(await flushed).toBe(false);
  expect(queue.counters).toMatchObject({ waiting: 1, dropped: 0 });
});

test("while a flush waits, an unavailable server is asked often", async () => {
  const script = new Script(AWAY, AWAY, AWAY, AWAY, AWAY, AWAY, takesAll);
  const { trajectories, queue } = script.client();
  trajectories.enqueue(trajectory());
  const flushed = queue.flush({ timeoutS: 5 });
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await flushed).toBe(true);
});

test("a refused record is counted, logged once, and does not block the others", async () => {
  const script = new Script(({ body }) => {
    const lines = body.trimEnd().split("\n").map((line) => JSON.parse(line) as Trajectory);
    const results = lines.map(({ id, request_summary }, index) => {
      if (request_summary !== "bad") return { line: index + 1, id, status: 201, revision: 1 };
      return { line: index + 1, status: 400, error: { type: "t", code: "invalid_input", message: "It is bad." } };
    });
    return json({ accepted: 1, refused: 2, results });
  });
  const { trajectories, queue } = script.client();
  for (const summary of ["bad", "good", "bad"]) trajectories.enqueue(trajectory(summary));
  expect(await queue.flush()).toBe(true);
  expect(queue.counters).toEqual({ sent: 1, waiting: 0, dropped: 0, refused: 2, replaced: 0, leftOut: 0 });
  expect(warn.mock.calls.length).toBe(1);
  expect(warned()).toContain("It is bad.");
});

test.each([
  [503, "outbox_unavailable"],
  [403, "quota_exceeded"],
])("a line with %i %s is sent again", async (status, code) => {
  const busy = { line: 1, status, error: { type: "t", code, message: "full" } };
  const script = new Script(json({ accepted: 0, refused: 1, results: [busy] }), takesAll);
  const { trajectories, queue } = script.client();
  trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(10_000);
  expect(queue.counters).toEqual({ sent: 1, waiting: 0, dropped: 0, refused: 0, replaced: 0, leftOut: 0 });
});

test("with an invalid key records stay pending and requests are rare", async () => {
  const script = new Script(failure(401), takesAll);
  const { trajectories, queue } = script.client();
  trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(500_000);
  expect(script.asked.length).toBe(1);
  expect(queue.counters).toMatchObject({ waiting: 1, refused: 0 });
  await vi.advanceTimersByTimeAsync(200_000);
  expect(queue.counters).toMatchObject({ sent: 1 });
});

test("what is no record is counted and logged, without an error", async () => {
  const { trajectories, queue } = new Script(takesAll).client();
  for (const odd of [null, 7, [trajectory()], undefined]) expect(trajectories.enqueue(odd as unknown as Trajectory)).toMatch(/-/);
  expect(queue.counters).toMatchObject({ refused: 4, waiting: 0 });
});

test("a queue full by count drops new records but accepts newer versions", async () => {
  const script = new Script(AWAY, takesAll);
  const { trajectories, queue } = script.client();
  const first = trajectories.enqueue(trajectory());
  for (let index = 1; index < 10_000; index++) trajectories.enqueue(trajectory());
  trajectories.enqueue(trajectory());
  trajectories.enqueue({ ...trajectory("newer"), id: first });
  expect(queue.counters).toMatchObject({ waiting: 10_000, dropped: 1 });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(queue.counters).toMatchObject({ sent: 10_000, waiting: 0, dropped: 1 });
  expect(warned()).toContain("full");
});

test("a queue full by bytes drops new records until there is room again", async () => {
  const { trajectories, queue } = new Script(takesAll).client();
  const wide = trajectory("x".repeat(1_000_000));
  for (let index = 0; index < 68; index++) trajectories.enqueue(wide);
  expect(queue.counters).toMatchObject({ waiting: 67, dropped: 1 });
  await queue.flush();
  trajectories.enqueue(wide);
  await queue.flush();
  expect(queue.counters).toEqual({ sent: 68, waiting: 0, dropped: 1, refused: 0, replaced: 0, leftOut: 0 });
});

test("a batch stays within 500 records and 1 MiB", async () => {
  const script = new Script(takesAll);
  const { trajectories, queue } = script.client();
  for (let index = 0; index < 1_200; index++) trajectories.enqueue(trajectory());
  for (let index = 0; index < 3; index++) trajectories.enqueue(trajectory("x".repeat(600_000)));
  await queue.flush();
  expect(script.asked.map(({ body }) => body.trimEnd().split("\n").length)).toEqual([500, 500, 201, 1, 1]);
});

test("a full batch is sent at once", async () => {
  const script = new Script(takesAll);
  const { trajectories } = script.client();
  for (let index = 0; index < 500; index++) trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(0);
  expect(script.asked.length).toBe(1);
});

test("`await using` sends pending records at the end of the block", async () => {
  const script = new Script(takesAll);
  {
    await using client = script.client();
    client.trajectories.enqueue(trajectory());
  }
  expect(sent(script).length).toBe(1);
});

test("close drops unsent and later records and logs both", async () => {
  const client = new Script(AWAY).client();
  client.trajectories.enqueue(trajectory());
  const closed = client.close({ timeoutS: 2 });
  client.trajectories.enqueue(trajectory());
  await vi.advanceTimersByTimeAsync(2_000);
  await closed;
  expect(client.queue.counters).toEqual({ sent: 0, waiting: 0, dropped: 2, refused: 0, replaced: 0, leftOut: 0 });
  expect(warned()).toContain("closed");
  expect(warned()).toContain("1 records are lost");
});

test("close aborts a hanging request", async () => {
  const script = new Script(({ signal }) => new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error));
  }));
  const client = script.client();
  client.trajectories.enqueue(trajectory());
  const closed = client.close({ timeoutS: 2 });
  await vi.advanceTimersByTimeAsync(2_000);
  await closed;
  expect(client.queue.counters).toMatchObject({ waiting: 0, dropped: 1 });
});

test("closing a client without queued records sends nothing", async () => {
  await new Script().client().close();
});
