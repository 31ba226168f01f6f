/** The SDK against a running store with a worker. */
import { createHash, randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { APIStatusError, AuthenticationError, BadRequestError, ConflictError, NotFoundError, type StoredTrajectory, TrajectoryClient } from "../src/index.js";
import { trajectory } from "./script.js";
import { BASE_URL, MISSING, storeClient } from "./store.js";

/** Returns a new project name, so that tests do not see the records of each other. */
function project(): string {
  return `project-${randomUUID()}`;
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

function summaries(records: StoredTrajectory[]): string[] {
  return records.map(({ request_summary }) => request_summary);
}

describe.skipIf(MISSING)(`against a store${MISSING}`, () => {
  test("a retrieved record equals the stored one, and sending it again changes nothing", async () => {
    const { trajectories } = storeClient();
    const stored = await trajectories.record({ ...trajectory("größer, 認証, 😀"), project: project(), metadata: { a: [1, null] } });
    expect(await trajectories.retrieve(stored.id)).toEqual(stored);
    expect(await trajectories.record(stored)).toEqual(stored);
  });

  test("outcomes of a run arrive with it and are listed", async () => {
    const client = storeClient();
    const run = client.trajectories.start("Add auth", { project: project() });
    run.outcome("merged", true);
    run.outcome("rating", 4.5, { evidence: { by: "review" } });
    await run.end();
    expect(await client.queue.flush()).toBe(true);
    expect(client.queue.counters).toMatchObject({ sent: 3, refused: 0 });
    // Outcomes that reach the store before their run are listed once both are archived.
    await expect
      .poll(() => client.outcomes.list(run.id), { timeout: 60_000 })
      .toMatchObject([
        { name: "merged", value: true },
        { name: "rating", value: 4.5, evidence: { by: "review" } },
      ]);
  }, 70_000);

  test("many records have results and are listed newest first over pages", async () => {
    const { trajectories } = storeClient();
    const name = project();
    const runs = Array.from({ length: 25 }, (_, index) => ({ ...trajectory(`run ${index}`), project: name }));
    const bad = { ...trajectory("bad"), total_cost_usd: -1 };
    const recorded = await trajectories.recordMany([...runs, bad], { maxLines: 10 });
    expect(recorded).toMatchObject({ accepted: 25, refused: 1 });
    expect(recorded.results.at(-1)).toMatchObject({ line: 26, status: 400, error: { param: "total_cost_usd" } });
    const listed = await all(trajectories.list({ project: name, limit: 10 }));
    expect(summaries(listed)).toEqual(summaries(runs as StoredTrajectory[]).reverse());
    expect((await all(trajectories.list({ project: name, limit: 10 }).pages())).map(({ data }) => data.length)).toEqual([10, 10, 5]);
    expect((await trajectories.list({ project: name, limit: 10 })).has_more).toBe(true);
  });

  test("filters of every kind find the matching records", async () => {
    const { trajectories } = storeClient();
    const name = project();
    const began = new Date(Date.now() - 60_000);
    await trajectories.recordMany([
      { ...trajectory("one & only"), project: name, tests_passed: true, total_cost_usd: 2, started_at: "2026-03-01T10:00:00Z" },
      { ...trajectory("two"), project: name, tests_passed: false, total_cost_usd: 0.5 },
    ]);
    const found = async (filters: object) => summaries(await all(trajectories.list({ project: name, ...filters })));
    expect(await found({ tests_passed: false })).toEqual(["two"]);
    expect(await found({ min_cost_usd: 1 })).toEqual(["one & only"]);
    expect(await found({ since: began })).toEqual(["two", "one & only"]);
    expect(await found({ until: began })).toEqual([]);
    expect(await found({ started_until: new Date("2026-03-02T00:00:00+02:00") })).toEqual(["one & only"]);
    expect(await found({ q: "ONLY &" })).toEqual(["one & only"]);
  });

  test("a recorded run is counted in the stats by phase, model and method", async () => {
    const { trajectories, queue } = storeClient();
    const name = project();
    for (const isGood of [true, true, false]) {
      const options = { model: "small", model_selection_method: "explicit" };
      await trajectories
        .run("run", { project: name }, (run) =>
          run.phase("spec", options, (phase) => {
            phase.usage({ cost_usd: 0.1, input_tokens: 10 });
            if (!isGood) throw new Error("no");
          }),
        )
        .catch(() => {});
    }
    expect(await queue.flush()).toBe(true);
    const stats = await trajectories.stats({ project: name });
    expect(stats).toMatchObject({ count: 3, outcomes: { success: 2, failure: 1 }, cost_usd: { known: 3, sum: 0.3 } });
    const [group] = stats.by_phase_model;
    expect(group).toMatchObject({ phase: "spec", model: "small", selection_method: "explicit", count: 3 });
    expect(group!.success_rate.rate).toBeCloseTo(2 / 3);
  });

  test("an export has every record in order of arrival and a correct hash", async () => {
    const { trajectories } = storeClient();
    const name = project();
    await trajectories.recordMany(Array.from({ length: 250 }, (_, index) => ({ ...trajectory(`run ${index} ✓`), project: name })));
    const raw = trajectories.exportJsonl({ project: name });
    const bytes = new Uint8Array(await new Response(raw.stream()).arrayBuffer());
    expect(raw.exported).toMatchObject({ count: 250, sha256: createHash("sha256").update(bytes).digest("hex") });
    const exported = trajectories.exportJsonl({ project: name });
    const records = await all(exported);
    expect(summaries(records)).toEqual(Array.from({ length: 250 }, (_, index) => `run ${index} ✓`));
    expect(exported.exported).toEqual(raw.exported);
    expect(raw.exported!.cursor).toBe(records.at(-1)!.id);
    expect(await all(trajectories.exportJsonl({ project: name, after: records[99]!.id }))).toEqual(records.slice(100));
    const rest = trajectories.exportJsonl({ project: name, after: records[249]!.id });
    expect(await all(rest)).toEqual([]);
    expect(rest.exported).toMatchObject({ count: 0, cursor: records[249]!.id });
  });

  test("a deleted record is gone and cannot be recorded again", async () => {
    const { trajectories } = storeClient();
    const name = project();
    const { id } = await trajectories.record({ ...trajectory(), project: name });
    expect(await trajectories.delete(id)).toMatchObject({ id, deleted: true });
    await expect(trajectories.retrieve(id)).rejects.toBeInstanceOf(NotFoundError);
    await expect(trajectories.record({ ...trajectory(), id })).rejects.toBeInstanceOf(ConflictError);
    await trajectories.recordMany([1, 2, 3].map((number) => ({ ...trajectory(`run ${number}`), project: name })));
    const { count, token } = await trajectories.deleteMatching({ project: name, dry_run: true });
    expect(count).toBe(3);
    expect(await trajectories.deleteMatching({ project: name, token })).toMatchObject({ deleted: 3, has_more: false });
    expect(await all(trajectories.list({ project: name }))).toEqual([]);
  });

  test("errors have the message of the server", async () => {
    const { trajectories } = storeClient();
    const error = await trajectories.record({ ...trajectory(), phases: [{ phase_name: "a", cost_usd: -1 }] }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BadRequestError);
    expect((error as BadRequestError).details).toMatchObject([{ path: "phases[0].cost_usd" }]);
    await expect(trajectories.exportJsonl({ after: randomUUID() }).stream().getReader().read()).rejects.toMatchObject({ code: "invalid_cursor" });
    const stranger = new TrajectoryClient({ baseUrl: BASE_URL, apiKey: "made.up" });
    await expect(stranger.trajectories.list()).rejects.toBeInstanceOf(AuthenticationError);
    await expect(trajectories.retrieve("..")).rejects.toBeInstanceOf(APIStatusError);
  });
});
