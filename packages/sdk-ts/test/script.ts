/** A `fetch` with scripted responses. It keeps the requests it received. */
import { TrajectoryClient } from "../src/index.js";
import type { ClientOptions, StoredTrajectory, Trajectory } from "../src/index.js";

/** A sent request. */
export interface SentRequest {
  method: string;
  url: URL;
  headers: Headers;
  body: string;
  signal: AbortSignal;
}

type Reply = Response | Error | ((asked: SentRequest) => Response | Promise<Response>);

export class Script {
  readonly asked: SentRequest[] = [];
  readonly #replies: Reply[];

  /** The last reply is repeated. */
  constructor(...replies: Reply[]) {
    this.#replies = replies;
  }

  readonly fetch = async (input: URL | RequestInfo, init?: RequestInit): Promise<Response> => {
    const body = await new Response(init?.body ?? null).text();
    const { method, headers, signal } = init as { method: string; headers: Headers; signal: AbortSignal };
    const asked = { method, url: new URL(String(input)), headers, body, signal };
    this.asked.push(asked);
    const reply = this.#replies.length > 1 ? this.#replies.shift() : this.#replies[0];
    if (reply === undefined) throw new Error("unexpected request: the script has no replies");
    if (reply instanceof Error) throw reply;
    return reply instanceof Response ? reply.clone() : reply(asked);
  };

  client(options: ClientOptions = {}): TrajectoryClient {
    return new TrajectoryClient({ baseUrl: "http://store.test", apiKey: "some.key", fetch: this.fetch, ...options });
  }
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } });
}

export function failure(status: number, code = "some_code", headers: Record<string, string> = {}): Response {
  return json({ error: { type: "some_error", code, message: "It is so." } }, status, headers);
}

/** Accepts every line of NDJSON, or a single body. */
export function takesAll({ headers, body }: SentRequest): Response {
  if (headers.get("Content-Type") !== "application/x-ndjson") return json(stored(JSON.parse(body) as Trajectory), 201);
  const lines = body.trimEnd().split("\n").map((line) => JSON.parse(line) as Trajectory);
  const results = lines.map(({ id }, index) => ({ line: index + 1, id, status: 201, revision: 1 }));
  return json({ accepted: lines.length, refused: 0, results });
}

export function stored(trajectory: Trajectory): StoredTrajectory {
  const unknown = { total_cost_usd: null, phases_cost_usd: null, unattributed_cost_usd: null, total_duration_ms: null };
  const credit = { rule: "checks" as const, phases: [] };
  const derived = { outcome: "unknown" as const, ...unknown, credit, input_tokens: null, output_tokens: null, total_tokens: null };
  return { ...trajectory, id: trajectory.id ?? "made", recorded_at: "2026-11-25T00:00:00.000000Z", revision: 1, derived };
}

export function trajectory(summary = "Add auth"): Trajectory {
  return { request_summary: summary, phases: [] };
}

/** Returns the records of all requests, as they were sent. */
export function sent({ asked }: Script): Trajectory[] {
  return asked.flatMap(({ body }) => body.trimEnd().split("\n").map((line) => JSON.parse(line) as Trajectory));
}
