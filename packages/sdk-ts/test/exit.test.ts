/** The end of a Node process, by processes that end. They import the package as it is shipped. */
import { execFile } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, expect, test } from "vitest";

const PACKAGE = new URL("../dist/index.js", import.meta.url).href;
const CWD = fileURLToPath(new URL("..", import.meta.url));
let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** A store that takes what comes, or one that never answers, and how many lines it has got. */
async function store(answers = true): Promise<{ url: string; lines: () => number }> {
  let lines = 0;
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += String(part)));
    request.on("end", () => {
      const count = body.trimEnd().split("\n").length;
      lines += count;
      const results = Array.from({ length: count }, (_, index) => ({ line: index + 1, status: 201, revision: 1 }));
      if (answers) response.end(JSON.stringify({ accepted: count, refused: 0, results }));
    });
  });
  await new Promise<void>((resolve) => server!.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, lines: () => lines };
}

/** What a program prints that has these lines in it, and has ended by itself. */
async function run(url: string, program: string): Promise<{ stdout: string; stderr: string }> {
  const source = `
    import { TrajectoryClient } from ${JSON.stringify(PACKAGE)};
    const client = new TrajectoryClient({ baseUrl: ${JSON.stringify(url)}, apiKey: "a.key" });
    ${program}`;
  return promisify(execFile)(process.execPath, ["--input-type=module", "--eval", source], { cwd: CWD });
}

test("a process that ends sends what waits first", async () => {
  const { url, lines } = await store();
  const { stdout } = await run(url, `
    for (let n = 0; n < 700; n++) client.trajectories.enqueue({ request_summary: "run " + n, phases: [] });
    process.on("exit", () => console.log(JSON.stringify(client.queue.counters)));`);
  expect(lines()).toBe(700);
  expect(JSON.parse(stdout)).toEqual({ sent: 700, waiting: 0, dropped: 0, refused: 0 });
});

test("a process of many clients sends what each has, and Node warns of no leak", async () => {
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
])("a process ends though the store %s, and says what is lost", async (_, address) => {
  const { stdout, stderr } = await run(await address(), `
    client.trajectories.enqueue({ request_summary: "run", phases: [] });
    process.on("exit", () => console.log(JSON.stringify(client.queue.counters)));`);
  expect(JSON.parse(stdout)).toMatchObject({ sent: 0, waiting: 0, dropped: 1 });
  expect(stderr).toContain("1 records are lost");
});
