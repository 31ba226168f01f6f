// The scenario through the built TypeScript package. Reads what to do from stdin, as JSON, and writes what it has seen.
import { text } from "node:stream/consumers";

const { action, module, url, key, runs, filters } = JSON.parse(await text(process.stdin));
const { TrajectoryClient } = await import(module);
const client = new TrajectoryClient({ baseUrl: url, apiKey: key });
const { trajectories } = client;

async function record() {
  for (const run of runs) await trajectories.record(run);
}

async function observe() {
  for (const { request_summary, phases, ...fields } of runs) {
    const { total_cost_usd, total_phases, phases_skipped, feedback_loops, ...rest } = fields;
    const { started_at, ended_at, total_duration_ms, build_passed, tests_passed, review_findings, ...others } = rest;
    const { policy, parent_id, outcome, ...known } = others;
    await trajectories.run(request_summary, { ...known, background: true }, async (run) => {
      for (const phase of phases) await observed(run, phase);
      for (const { from_phase, to_phase, reason } of feedback_loops ?? []) run.feedback(from_phase, to_phase, { reason });
      const measured = { started_at, ended_at, total_duration_ms, build_passed, tests_passed, review_findings };
      const given = { ...measured, policy, parent_id, outcome, feedback_loops };
      run.set(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)));
    });
  }
  if (!(await client.queue.flush())) throw new Error("the queue was not emptied in time");
}

async function observed(run, { phase_name, outcome, skip_reason, error, ...fields }) {
  if (outcome === "skipped") return run.skip(phase_name, { reason: skip_reason });
  const { requested_model, model, tools_used, steps_taken, started_at, duration_ms, attempt, ...more } = fields;
  const { input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd, ...others } = more;
  const { agent, model_selection_method, candidates, selection_probability, metadata, ...decided } = others;
  const options = { agent, model_selection_method, candidates, selection_probability, metadata };
  const act = async (phase) => {
    if (requested_model !== undefined) phase.fallBackTo(model);
    for (const tool of tools_used ?? []) phase.tool(tool);
    for (let step = 0; step < (steps_taken ?? 0); step++) phase.step();
    phase.usage({ input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd });
    phase.set({ started_at, duration_ms, ...decided, ...(error === undefined && { outcome }) });
    if (error !== undefined) throw failure(error);
  };
  const ended = run.phase(phase_name, { ...options, model: requested_model ?? model }, act);
  await (error === undefined ? ended : ended.catch(() => {}));
}

function failure(said) {
  const [name, ...message] = said.split(": ");
  return Object.assign(new Error(message.join(": ")), { name });
}

async function see() {
  const summaries = async (list) => {
    const found = [];
    for await (const record of list) found.push(record.request_summary);
    return found;
  };
  return {
    listed: await summaries(trajectories.list({ limit: 2 })),
    found: await summaries(trajectories.list(filters)),
    stats: await trajectories.stats(),
    exported: await text(trajectories.exportJsonl().stream()),
  };
}

const seen = await { record, observe, see }[action]();
await client.close();
process.stdout.write(JSON.stringify(seen ?? null));
