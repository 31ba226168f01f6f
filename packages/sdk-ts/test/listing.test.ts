import { expect, test } from "vitest";
import { json, Script, stored, trajectory } from "./script.js";

function page(names: string[], next: string | null): Response {
  const data = names.map((name) => stored(trajectory(name)));
  return json({ data, next_cursor: next, has_more: next !== null, tiers: ["hot"], complete: true });
}

function pages(): Script {
  return new Script(page(["a", "b"], "one"), page(["c"], "two"), page(["d"], null));
}

test("an awaited list is its first page", async () => {
  const script = pages();
  const { data, next_cursor, complete } = await script.client().trajectories.list();
  expect([data.length, next_cursor, complete]).toEqual([2, "one", true]);
  expect(script.asked.length).toBe(1);
});

test("an iterated list yields every record of every page", async () => {
  const script = pages();
  const names: string[] = [];
  for await (const record of script.client().trajectories.list({ project: "store", limit: 2 })) {
    names.push(record.request_summary);
  }
  expect(names).toEqual(["a", "b", "c", "d"]);
  expect(script.asked.map(({ url }) => url.search)).toEqual([
    "?project=store&limit=2",
    "?project=store&limit=2&cursor=one",
    "?project=store&limit=2&cursor=two",
  ]);
});

test("pages() yields the pages one by one from a cursor on", async () => {
  const script = pages();
  const counts: number[] = [];
  for await (const { data } of script.client().trajectories.list({ cursor: "zero" }).pages()) counts.push(data.length);
  expect(counts).toEqual([2, 1, 1]);
  expect(script.asked[0]!.url.searchParams.get("cursor")).toBe("zero");
});

test("a list sends no request before it is used and none after it is stopped", async () => {
  const script = pages();
  const list = script.client().trajectories.list();
  expect(script.asked.length).toBe(0);
  for await (const record of list) if (record.request_summary === "b") break;
  expect(script.asked.length).toBe(1);
});

test("a repeated cursor ends the iteration", async () => {
  const script = new Script(page(["a"], "same"));
  let count = 0;
  for await (const _ of script.client().trajectories.list()) count++;
  expect(count).toBe(2);
});

test("the error of a list is thrown where it is awaited", async () => {
  const script = new Script(new TypeError("fetch failed"));
  await expect(script.client({ maxRetries: 0 }).trajectories.list()).rejects.toThrow("is unreachable");
});

test("filters are sent as the server parses them, and undefined ones are omitted", async () => {
  const script = new Script(json({ count: 0 }));
  await script.client().trajectories.stats({
    since: new Date("2026-11-25T01:02:03.004Z"),
    until: "2026-11-26T00:00:00+01:00",
    started_since: "7d",
    tests_passed: false,
    min_cost_usd: 0.5,
    q: "ä & b",
    model: undefined,
  });
  expect(Object.fromEntries(script.asked[0]!.url.searchParams)).toEqual({
    since: "2026-11-25T01:02:03.004Z",
    until: "2026-11-26T00:00:00+01:00",
    started_since: "7d",
    tests_passed: "false",
    min_cost_usd: "0.5",
    q: "ä & b",
  });
});

test("any id is escaped in the path, and an empty id is an error", async () => {
  const script = new Script(json(stored(trajectory())));
  const { trajectories } = script.client();
  await trajectories.retrieve("../a?b");
  expect(script.asked[0]!.url.href).toBe("http://store.test/v1/agent/trajectories/..%2Fa%3Fb");
  await expect(trajectories.retrieve("")).rejects.toThrow(TypeError);
  await expect(trajectories.delete("")).rejects.toThrow(TypeError);
  expect(script.asked.length).toBe(1);
});

test("many trajectories are deleted with the token of a dry run", async () => {
  const script = new Script(json({ count: 3, token: "t" }), json({ deleted: 3, has_more: false }));
  const { trajectories } = script.client();
  const { token } = await trajectories.deleteMatching({ project: "old", dry_run: true });
  await trajectories.deleteMatching({ project: "old", token });
  expect(script.asked.map(({ method, url }) => [method, url.search])).toEqual([
    ["DELETE", "?project=old&dry_run=1"],
    ["DELETE", "?project=old&token=t"],
  ]);
});
