import { expect, test } from "vitest";
import { BadRequestError, ConflictError, DroppedPhasesError, NotFoundError, PreconditionFailedError } from "../src/index.js";
import { failure, Script, takesAll, trajectory } from "./script.js";

test("update sends a merge patch, in which null deletes a field", async () => {
  const script = new Script(takesAll);
  const patch = { tests_passed: true, error: null, phases: [{ phase_id: "spec-1", fit: "good_fit" as const }] };
  await script.client().trajectories.update("some id", patch, { ifMatch: 1_764_000_000_000_000 });
  await script.client().trajectories.update("7", {});
  const [asked, unconditional] = script.asked;
  expect([asked!.method, asked!.url.pathname]).toEqual(["PATCH", "/v1/agent/trajectories/some%20id"]);
  expect(JSON.parse(asked!.body)).toEqual(patch);
  expect(asked!.headers.get("Content-Type")).toBe("application/merge-patch+json");
  expect(asked!.headers.get("If-Match")).toBe('"1764000000000000"');
  expect(unconditional!.headers.has("If-Match")).toBe(false);
  await expect(script.client().trajectories.update("", {})).rejects.toThrow("id must not be empty");
  await expect(script.client().trajectories.update("7", { total_cost_usd: NaN })).rejects.toThrow(RangeError);
});

test("replace is a parameter of a record, and of each request of many", async () => {
  const script = new Script(takesAll);
  const { trajectories } = script.client();
  await trajectories.record(trajectory(), { replace: true });
  await trajectories.recordMany([trajectory(), trajectory()], { replace: true, maxLines: 1 });
  await trajectories.record(trajectory());
  await trajectories.record(trajectory(), { replace: false });
  expect(script.asked.map(({ url }) => url.search)).toEqual(["?replace=1", "?replace=1", "?replace=1", "", ""]);
});

test.each([
  [409, "phases_would_be_dropped", DroppedPhasesError],
  [409, "deleted", ConflictError],
  [412, "revision_mismatch", PreconditionFailedError],
  [404, "not_found", NotFoundError],
  [400, "invalid_input", BadRequestError],
])("a refused change with status %i and code %s is one error, without a retry", async (status, code, kind) => {
  const script = new Script(failure(status, code));
  const error: unknown = await script.client().trajectories.update("7", {}).catch((thrown: unknown) => thrown);
  expect(error?.constructor).toBe(kind);
  expect(script.asked.length).toBe(1);
});
