/** The exit of a Node process, tested with real processes. They import the built package. */
import { execFile } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";

const PACKAGE = new URL("../dist/index.js", import.meta.url).href;
const CWD = fileURLToPath(new URL("..", import.meta.url));
const servers: Server[] = [];

afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** Starts a store that accepts everything, or one that never responds. `lines` counts the received lines. */
async function store(answers = true): Promise<{ url: string; lines: () => number }> {
  let lines = 0;
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += String(part)));
    request.on("end", () => {
      const count = body.trimEnd().split("\n").length;
      lines += count;
      const results = Array.from({ length: count }, (_, index) => ({ line: index + 1, status: 201, revision: 1 }));
      if (answers) response.end(JSON.stringify({ accepted: count, refused: 0, results }));
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, lines: () => lines };
}

/** Runs a program with these lines until it exits by itself, and returns its output. */
async function run(url: string, program: string): Promise<{ stdout: string; stderr: string }> {
  const source = `
    import { TrajectoryClient } from ${JSON.stringify(PACKAGE)};
    const client = new TrajectoryClient({ baseUrl: ${JSON.stringify(url)}, apiKey: "a.key" });
    ${program}`;
  return promisify(execFile)(process.execPath, ["--input-type=module", "--eval", source], { cwd: CWD });
}

// Concurrent: two of them wait for the two seconds that an exit may be delayed.
describe.concurrent("exit", () => {
  test("a process sends pending records before it exits", async () => {
    const { url, lines } = await store();
    const { stdout } = await run(url, `
      for (let n = 0; n < 700; n++) client.trajectories.enqueue({ request_summary: "run " + n, phases: [] });
      process.on("exit", () => console.log(JSON.stringify(client.queue.counters)));`);
    expect(lines()).toBe(700);
    expect(JSON.parse(stdout)).toEqual({ sent: 700, waiting: 0, dropped: 0, refused: 0, replaced: 0, leftOut: 0 });
  });

  test("a process sends the records of many clients without a leak warning of Node", async () => {
    const { url, lines } = await store();
    const { stderr } = await run(url, `
      for (let n = 0; n < 30; n++) {
        const own = new TrajectoryClient({ baseUrl: client.config.baseUrl });
        own.trajectories.enqueue({ request_summary: "run", phases: [] });
      }`);
    expect(lines()).toBe(30);
    expect(stderr).toBe("");
  });

  test.each([
    ["refuses connections", async () => "http://127.0.0.1:9"],
    ["never answers", async () => (await store(false)).url],
  ])("a process exits though the store %s, and logs the lost records", async (_, address) => {
    const { stdout, stderr } = await run(await address(), `
      client.trajectories.enqueue({ request_summary: "run", phases: [] });
      process.on("exit", () => console.log(JSON.stringify(client.queue.counters)));`);
    expect(JSON.parse(stdout)).toMatchObject({ sent: 0, waiting: 0, dropped: 1 });
    expect(stderr).toContain("1 records are lost");
  });
});
