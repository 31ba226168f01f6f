import { expect, test } from "vitest";
import { APIConnectionError, type Trajectory } from "../src/index.js";
import { type SentRequest, failure, json, Script, sent, stored, takesAll, trajectory } from "./script.js";

function many(count: number): Trajectory[] {
  return Array.from({ length: count }, (_, index) => trajectory(`run ${index}`));
}

test("a given id is kept, and the object of the caller is not changed", async () => {
  const script = new Script(takesAll);
  const given = trajectory();
  const { id } = await script.client().trajectories.record(given);
  expect(given.id).toBeUndefined();
  expect(sent(script)[0]!.id).toBe(id);
  const own = "0b9e8f5e-7f0c-4a3c-9a5e-1f0a3a9f2b11";
  await script.client().trajectories.record({ ...given, id: own });
  expect(sent(script)[1]!.id).toBe(own);
});

test("a retrieved record can be sent again", async () => {
  const script = new Script(takesAll);
  await script.client().trajectories.record(stored(trajectory()));
  expect(sent(script)[0]).toMatchObject({ request_summary: "Add auth" });
});

test("recordMany splits by lines and returns the results in order", async () => {
  const script = new Script(takesAll);
  const recorded = await script.client().trajectories.recordMany(many(7), { maxLines: 3 });
  expect(script.asked.map(({ body }) => body.trimEnd().split("\n").length)).toEqual([3, 3, 1]);
  expect(recorded).toMatchObject({ accepted: 7, refused: 0 });
  expect(recorded.results.map(({ line }) => line)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(recorded.results.map(({ id }) => id)).toEqual(sent(script).map(({ id }) => id));
});

test("recordMany splits by bytes and sends a larger record alone", async () => {
  const script = new Script(takesAll);
  const wide = { ...trajectory("ü".repeat(300)), tags: ["wide"] };
  await script.client().trajectories.recordMany([...many(2), wide, ...many(2)], { maxBytes: 500 });
  expect(script.asked.map(({ body }) => body.trimEnd().split("\n").length)).toEqual([2, 1, 2]);
  const sizes = script.asked.map(({ body }) => new TextEncoder().encode(body).length);
  expect(sizes.map((size) => size <= 500)).toEqual([true, false, true]);
});

test("recordMany accepts an asynchronous iterable", async () => {
  const script = new Script(takesAll);
  async function* coming(): AsyncGenerator<Trajectory> {
    yield* many(3);
  }
  expect((await script.client().trajectories.recordMany(coming())).accepted).toBe(3);
});

test("recordMany sends no request without records", async () => {
  const script = new Script();
  expect(await script.client().trajectories.recordMany([])).toEqual({ accepted: 0, refused: 0, results: [] });
});

test.each([
  ["a circle", () => {
    const metadata: Record<string, unknown> = {};
    metadata["itself"] = metadata;
    return { ...trajectory(), metadata };
  }],
  ["NaN", () => ({ ...trajectory(), total_cost_usd: NaN })],
  ["infinity", () => ({ ...trajectory(), metadata: { deep: [Infinity] } })],
  ["a BigInt", () => ({ ...trajectory(), metadata: { big: 1n } })],
  ["null", () => null as unknown as Trajectory],
  ["a toJSON that throws", () => ({ ...trajectory(), metadata: { toJSON: () => { throw new Error("no"); } } })],
])("a record that is not serializable is refused alone: %s", async (_, bad) => {
  const script = new Script(takesAll);
  const recorded = await script.client().trajectories.recordMany([trajectory("a"), bad(), trajectory("b")]);
  expect(recorded).toMatchObject({ accepted: 2, refused: 1 });
  expect(recorded.results[1]).toMatchObject({ line: 2, status: 400, error: { code: "not_serializable" } });
  expect(sent(script).map(({ request_summary }) => request_summary)).toEqual(["a", "b"]);
});

test("a refused line has its error and the id that was sent", async () => {
  const error = { type: "invalid_request_error", code: "invalid_input", message: "no" };
  const script = new Script((asked) => {
    const [first] = asked.body.split("\n").map((line) => line && (JSON.parse(line) as Trajectory));
    const results = [{ line: 1, status: 400, error }, { line: 2, id: "x", status: 201, revision: 1 }];
    expect(first).toBeDefined();
    return json({ accepted: 1, refused: 1, results });
  });
  const recorded = await script.client().trajectories.recordMany(many(2));
  expect(recorded).toMatchObject({ accepted: 1, refused: 1 });
  expect(recorded.results[0]).toMatchObject({ line: 1, id: sent(script)[0]!.id, status: 400, error });
});

/** A server with a lower limit than the batches of the SDK. */
function takesUpTo(bytes: number): (asked: SentRequest) => Response {
  return (asked) => (asked.body.length > bytes ? failure(413, "body_too_large") : takesAll(asked));
}

test("a batch that is too large is halved, and only a too large record is refused", async () => {
  const script = new Script(takesUpTo(400));
  const wide = trajectory("x".repeat(500));
  const recorded = await script.client().trajectories.recordMany([...many(3), wide, ...many(3)]);
  expect(recorded).toMatchObject({ accepted: 6, refused: 1 });
  expect(recorded.results.map(({ line }) => line)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(recorded.results[3]).toMatchObject({ status: 413, error: { code: "body_too_large" } });
});

test("the error of a failed request has the results of the records before", async () => {
  const script = new Script(takesAll, new TypeError("fetch failed"));
  const client = script.client({ maxRetries: 0 });
  const error = await client.trajectories.recordMany(many(5), { maxLines: 2 }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(APIConnectionError);
  expect((error as APIConnectionError).recorded).toMatchObject({ accepted: 2, refused: 0 });
});

test("an error of the source iterable is thrown unchanged", async () => {
  const own = new Error("the file broke off");
  function* coming(): Generator<Trajectory> {
    yield trajectory();
    throw own;
  }
  await expect(new Script(takesAll).client().trajectories.recordMany(coming())).rejects.toBe(own);
});

test("invalid bounds are errors", async () => {
  await expect(new Script().client().trajectories.recordMany(many(1), { maxLines: 0 })).rejects.toThrow("maxLines");
});
