// The adapter of the scenario that every way to the store goes (tests/sdk at the root): what it records and shows, by this SDK.
//
//   node scripts/scenario.mjs record          runs as JSONL on stdin, recorded by recordMany
//   node scripts/scenario.mjs run             the same, replayed through the recorder and sent by the background queue
//   node scripts/scenario.mjs see FILTERS     {"listed", "found", "stats", "exported"} as JSON on stdout; FILTERS is an object
//
// The store is the one of TRAJECTORY_BASE_URL and TRAJECTORY_API_KEY. It wants dist/: run `npm run build` before.
import { text } from "node:stream/consumers";
import { TrajectoryClient } from "trajectory-sdk";

const client = new TrajectoryClient();
const { trajectories } = client;

async function given() {
  const lines = await text(process.stdin);
  return lines.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

async function record() {
  const { refused, results } = await trajectories.recordMany(await given());
  if (refused > 0) throw new Error(JSON.stringify(results.filter(({ error }) => error)));
}

async function run() {
  for (const body of await given()) {
    const { request_summary, phases, feedback_loops: loops = [], ...fields } = body;
    await trajectories.run(request_summary, {}, async (run) => {
      for (const phase of phases) await replayed(run, phase);
      for (const { from_phase, to_phase, reason } of loops) run.feedback(from_phase, to_phase, { reason });
      // Times of its own would differ; all else the recorder finds out as it would in life.
      const { started_at, ended_at, total_duration_ms, total_phases, phases_skipped, total_cost_usd, ...said } = fields;
      run.set({ ...said, started_at, ended_at, total_duration_ms, ...(loops.length > 0 && { feedback_loops: loops }) });
    });
    // One by one, since the order of the list is that in which they arrive.
    if (!(await client.queue.flush())) throw new Error("The store did not take the run in time.");
  }
  if (client.queue.counters.refused > 0) throw new Error("The store refused a run.");
}

/** A phase of the scenario, as a pipeline would have gone through it. */
async function replayed(run, { phase_name, outcome, skip_reason: reason, ...fields }) {
  const { agent, metadata } = fields;
  if (outcome === "skipped") return run.skip(phase_name, { reason, agent, metadata });
  const { model, requested_model, tools_used = [], steps_taken, error, started_at, duration_ms, ...rest } = fields;
  const { input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd, attempt, ...options } = rest;
  const act = (phase) => {
    if (requested_model) phase.fallBackTo(model);
    tools_used.forEach((name) => phase.tool(name));
    if (steps_taken !== undefined) phase.step(steps_taken);
    phase.usage({ input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd });
    phase.set({ started_at, duration_ms });
    if (error) throw Object.assign(new Error(error.replace(/^\w+: /, "")), { name: error.split(":")[0] });
  };
  const begun = run.phase(phase_name, { ...options, model: requested_model ?? model }, act);
  return error ? begun.catch(() => {}) : begun;
}

async function see(filters) {
  const listed = [];
  for await (const { request_summary } of trajectories.list({ limit: 2 })) listed.push(request_summary);
  const found = [];
  for await (const { request_summary } of trajectories.list(filters)) found.push(request_summary);
  const lines = await new Response(trajectories.exportJsonl().stream()).text();
  const exported = lines.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  console.log(JSON.stringify({ listed, found, stats: await trajectories.stats(), exported }));
}

const [command, filters = "{}"] = process.argv.slice(2);
await { record, run, see }[command](JSON.parse(filters));
