import { beforeEach, expect, test, vi } from "vitest";
import * as sdk from "../src/index.js";
import { failure, json, Script, stored, trajectory } from "./script.js";

const STATUSES = [
  [400, sdk.BadRequestError],
  [401, sdk.AuthenticationError],
  [403, sdk.PermissionDeniedError],
  [404, sdk.NotFoundError],
  [408, sdk.RequestTimeoutError],
  [409, sdk.ConflictError],
  [413, sdk.PayloadTooLargeError],
  [415, sdk.UnsupportedMediaTypeError],
  [418, sdk.APIStatusError],
  [429, sdk.RateLimitError],
  [500, sdk.ServerError],
  [502, sdk.ServerError],
  [503, sdk.ServiceUnavailableError],
] as const;
const RETRIED = [408, 429, 500, 502, 503, 504];

beforeEach(() => {
  vi.useFakeTimers();
  return () => vi.useRealTimers();
});

/** Returns the error or result of a call, with fake timers. */
async function outcome<T>(call: PromiseLike<T>): Promise<T | Error> {
  let isOver = false;
  const ended = Promise.resolve(call).catch((error: Error) => error).finally(() => (isOver = true));
  while (!isOver) await vi.advanceTimersByTimeAsync(1_000);
  return ended;
}

async function thrown(call: PromiseLike<unknown>): Promise<Error> {
  const error = await outcome(call);
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

test.each(STATUSES)("status %i has its own error class", async (status, Class) => {
  const script = new Script(failure(status));
  const error = await thrown(script.client({ maxRetries: 0 }).trajectories.retrieve("x"));
  expect(error.constructor).toBe(Class);
  expect(error.name).toBe(Class.name);
  expect(error).toMatchObject({ status, code: "some_code", message: "It is so.", retryAfterS: null });
});

test.each(STATUSES)("status %i is retried only if a retry can help", async (status) => {
  const script = new Script(failure(status));
  await thrown(script.client().trajectories.record(trajectory()));
  expect(script.asked.length).toBe(RETRIED.includes(status) ? 5 : 1);
});

test("an error has the field, every problem, and the request id", async () => {
  const details = [{ path: "phases[0].cost_usd", code: "greater_than_equal", message: "at least 0" }];
  const body = { error: { type: "invalid_request_error", code: "invalid_input", message: "No.", param: "phases[0].cost_usd", details } };
  const script = new Script(json(body, 400), json(body, 400, { "X-Request-Id": "of-a-proxy" }));
  const { trajectories } = script.client();
  const error = await thrown(trajectories.record(trajectory()));
  expect(error).toMatchObject({ param: "phases[0].cost_usd", details });
  expect((error as sdk.APIStatusError).requestId).toBe(script.asked[0]!.headers.get("X-Request-Id"));
  expect(await thrown(trajectories.record(trajectory()))).toMatchObject({ requestId: "of-a-proxy" });
});

test("the page of a proxy gives an error without a code and is not quoted", async () => {
  const script = new Script(new Response("<h1>Bad gateway</h1>", { status: 502 }));
  const error = await thrown(script.client({ maxRetries: 0 }).trajectories.stats());
  expect(error).toMatchObject({ status: 502, code: "", message: "The response with status 502 is not from the store (a proxy?)." });
});

test("a response from another API is an error and is not retried", async () => {
  const script = new Script(new Response("<h1>Welcome</h1>"));
  const error = await thrown(script.client().trajectories.stats());
  expect(error).toMatchObject({ status: 200, code: "unreadable_answer" });
  expect(script.asked.length).toBe(1);
});

test("a redirect is not followed, and the error names its target", async () => {
  const script = new Script(new Response(null, { status: 301, headers: { Location: "https://store.test/v1" } }));
  const error = await thrown(script.client().trajectories.record(trajectory()));
  expect(error.message).toContain("https://store.test/v1");
  expect(error).toMatchObject({ status: 301 });
});

test("a failed connection is retried with the same id and body", async () => {
  const script = new Script(new TypeError("fetch failed"), new TypeError("fetch failed"), json(stored(trajectory()), 201));
  await outcome(script.client().trajectories.record(trajectory()));
  const bodies = script.asked.map(({ body }) => body);
  expect(new Set(bodies).size).toBe(1);
  expect(bodies.length).toBe(3);
  expect(JSON.parse(bodies[0]!).id).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  expect(new Set(script.asked.map(({ headers }) => headers.get("X-Request-Id"))).size).toBe(1);
});

test("a connection that keeps failing is an error with its cause", async () => {
  const cause = new TypeError("fetch failed");
  const script = new Script(cause);
  const error = await thrown(script.client().trajectories.stats());
  expect(error.constructor).toBe(sdk.APIConnectionError);
  expect(error.cause).toBe(cause);
  expect((error as sdk.APIConnectionError).requestId).toBe(script.asked[0]!.headers.get("X-Request-Id"));
  expect(script.asked.length).toBe(5);
});

test("a missing response is a timeout error and aborts the request", async () => {
  const script = new Script(({ signal }) => new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error));
  }));
  const error = await thrown(script.client({ timeoutS: 7, maxRetries: 0 }).trajectories.stats());
  expect(error.constructor).toBe(sdk.APITimeoutError);
  expect(error).toBeInstanceOf(sdk.APIConnectionError);
  expect(error.message).toContain("7 s");
  expect(script.asked[0]!.signal.aborted).toBe(true);
});

test("a body that stops arriving is a timeout error", async () => {
  const script = new Script(({ signal }) => new Response(new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode('{"count":'));
      signal.addEventListener("abort", () => controller.error(signal.reason));
    },
  })));
  expect(await thrown(script.client({ maxRetries: 0 }).trajectories.stats())).toBeInstanceOf(sdk.APITimeoutError);
});

test("retry delays are random, with a bound that doubles up to eight seconds", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.999);
  const at: number[] = [];
  const script = new Script(() => {
    at.push(Date.now());
    return failure(503);
  });
  const call = thrown(script.client({ maxRetries: 6 }).trajectories.stats());
  await vi.advanceTimersByTimeAsync(60_000);
  await call;
  const pauses = at.slice(1).map((time, index) => Math.round((time - at[index]!) / 100) / 10);
  expect(pauses).toEqual([0.5, 1, 2, 4, 8, 8]);
});

test.each([
  ["seconds", () => "7"],
  ["a date", () => new Date(Date.now() + 7_000).toUTCString()],
])("Retry-After is waited for: %s", async (_, text) => {
  vi.setSystemTime(new Date("2026-11-25T00:00:00Z"));
  vi.spyOn(Math, "random").mockReturnValue(0);
  const script = new Script(failure(429, "rate_limited", { "Retry-After": text() }), json({ count: 1 }));
  const call = Promise.resolve(script.client().trajectories.stats());
  await vi.advanceTimersByTimeAsync(6_999);
  expect(script.asked.length).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(script.asked.length).toBe(2);
  expect(await call).toEqual({ count: 1 });
});

test("a long Retry-After is an error instead of a wait", async () => {
  const script = new Script(failure(429, "rate_limited", { "Retry-After": "3600" }));
  expect(await thrown(script.client().trajectories.stats())).toMatchObject({ retryAfterS: 3600 });
  expect(script.asked.length).toBe(1);
});

test("a signal aborts a call with its reason: before, during, and between attempts", async () => {
  const reason = new Error("enough");
  const idle = new Script(failure(503));
  expect(await thrown(idle.client().trajectories.stats({}, { signal: AbortSignal.abort(reason) }))).toBe(reason);
  expect(idle.asked.length).toBe(0);

  const underWay = new AbortController();
  const hanging = new Script(({ signal }) => new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error));
    underWay.abort(reason);
  }));
  expect(await thrown(hanging.client().trajectories.stats({}, { signal: underWay.signal }))).toBe(reason);
  expect(hanging.asked.length).toBe(1);

  const pausing = new AbortController();
  const call = idle.client().trajectories.stats({}, { signal: pausing.signal }).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(0);
  pausing.abort(reason);
  expect(await call).toBe(reason);
  expect(idle.asked.length).toBe(1);
});
