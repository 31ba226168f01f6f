import { createHash } from "node:crypto";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test, vi } from "vitest";
import { APIConnectionError, BadRequestError, ExportBrokenError, type StoredTrajectory, TrajectoryClient } from "../src/index.js";

const LINES = Array.from({ length: 200 }, (_, index) => `{"id":"id-${index}","request_summary":"run ${index} ✓","phases":[]}\n`);
let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Starts a server on a real socket, with a client. `asked` has the URLs that it received. */
async function serving(listener: RequestListener): Promise<{ client: TrajectoryClient; asked: URL[] }> {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const asked: URL[] = [];
  server = createServer((request, response) => {
    asked.push(new URL(request.url!, "http://store.test"));
    listener(request, response);
  });
  await new Promise<void>((resolve) => server!.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { client: new TrajectoryClient({ baseUrl: `http://127.0.0.1:${port}`, apiKey: "a.key" }), asked };
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function end(lines: string[], said: object = {}): string {
  const last = lines.at(-1);
  const cursor = last === undefined ? null : (JSON.parse(last) as StoredTrajectory).id;
  return `${JSON.stringify({ end: { count: lines.length, cursor, sha256: sha256(lines.join("")), ...said } })}\n`;
}

function behind(url: URL): string[] {
  const after = url.searchParams.get("after");
  return after === null ? LINES : LINES.slice(LINES.findIndex((line) => line.includes(`"${after}"`)) + 1);
}

/** Sends the lines after `after`. Breaks the first connections after the given numbers of bytes. */
function breakingOff(...bytes: number[]): RequestListener {
  return (request, response) => {
    const lines = behind(new URL(request.url!, "http://store.test"));
    const cut = bytes.shift();
    const after = new URL(request.url!, "http://store.test").searchParams.get("after");
    const body = Buffer.from(lines.join("") + end(lines, lines.length > 0 ? {} : { cursor: after }));
    if (cut === undefined) response.end(body);
    else response.write(body.subarray(0, cut), () => response.destroy());
  };
}

async function ids(client: TrajectoryClient): Promise<string[]> {
  const found: string[] = [];
  for await (const { id } of client.trajectories.exportJsonl()) found.push(id);
  return found;
}

const ALL_IDS = LINES.map((line) => (JSON.parse(line) as StoredTrajectory).id);

test("an export yields every record, then its count, hash and cursor", async () => {
  const { client, asked } = await serving(breakingOff());
  const exported = client.trajectories.exportJsonl({ project: "store" });
  const found: string[] = [];
  for await (const { id } of exported) {
    expect(exported.exported).toBeNull();
    found.push(id);
  }
  expect(found).toEqual(ALL_IDS);
  expect(exported.exported).toEqual({ count: 200, sha256: sha256(LINES.join("")), cursor: "id-199" });
  expect(asked[0]!.search).toBe("?project=store&end=1");
});

test("the raw stream has the lines as they were sent, without the end line", async () => {
  const { client } = await serving(breakingOff());
  const text = await new Response(client.trajectories.exportJsonl().stream()).text();
  expect(text).toBe(LINES.join(""));
});

test.each([
  ["in the middle of a line", [1_000]],
  ["between two lines", [Buffer.byteLength(LINES.slice(0, 20).join(""))]],
  ["in the middle of a character", [Buffer.from(LINES[0]!).indexOf("✓") + 1]],
  ["in the end line", [Buffer.byteLength(LINES.join("")) + 9]],
  ["before anything has come", [0, 0]],
  ["again and again", [500, 700, 900, 1_100, 1_300, 1_500, 1_700]],
])("an export that is cut goes on behind what it has: %s", async (_, cuts) => {
  const { client, asked } = await serving(breakingOff(...cuts));
  const exported = client.trajectories.exportJsonl();
  const text = await new Response(exported.stream()).text();
  expect(text).toBe(LINES.join(""));
  expect(asked.length).toBe(cuts.length + 1);
  expect(exported.exported).toEqual({ count: 200, sha256: sha256(text), cursor: "id-199" });
});

test("a response without its end line is resumed", async () => {
  let count = 0;
  const { client } = await serving((request, response) => {
    const lines = behind(new URL(request.url!, "http://store.test"));
    response.end(count++ === 0 ? lines.slice(0, 50).join("") : lines.join("") + end(lines));
  });
  expect(await ids(client)).toEqual(ALL_IDS);
  expect(count).toBe(2);
});

test("progress includes how often the export was resumed", async () => {
  const { client } = await serving(breakingOff(1_000));
  const told: number[][] = [];
  const options = { progress: ({ count, bytes, resumed }: { count: number; bytes: number; resumed: number }) => told.push([count, bytes, resumed]) };
  for await (const _ of client.trajectories.exportJsonl({}, options));
  expect(told.at(-1)).toEqual([200, Buffer.byteLength(LINES.join("")), 1]);
});

test("an export without progress fails after its retries", async () => {
  const { client, asked } = await serving(breakingOff(...Array<number>(9).fill(10)));
  await expect(ids(client)).rejects.toBeInstanceOf(APIConnectionError);
  expect(asked.length).toBe(5);
});

test.each([
  ["one record fewer than were sent", end(LINES, { count: 201 })],
  ["another hash", end(LINES, { sha256: sha256("something else") })],
])("an export that is not what was sent is broken: %s", async (_, endLine) => {
  const { client, asked } = await serving((_request, response) => void response.end(LINES.join("") + endLine));
  const exported = client.trajectories.exportJsonl();
  await expect(new Response(exported.stream()).text()).rejects.toBeInstanceOf(ExportBrokenError);
  expect(exported.exported).toBeNull();
  expect(asked.length).toBe(1);
});

test.each(['{"id":"a"\n{"id":"b"}\n', '{"name":"a"}\n'])("a line that is not a record is a broken export: %j", async (body) => {
  const { client } = await serving((_request, response) => void response.end(body));
  await expect(ids(client)).rejects.toBeInstanceOf(ExportBrokenError);
});

test("an empty export is complete", async () => {
  const { client } = await serving((_request, response) => void response.end(end([])));
  const exported = client.trajectories.exportJsonl();
  for await (const record of exported) expect(record).toBeUndefined();
  expect(exported.exported).toEqual({ count: 0, sha256: sha256(""), cursor: null });
});

test("an export can start after an id", async () => {
  const { client, asked } = await serving(breakingOff(400));
  const exported = client.trajectories.exportJsonl({ after: "id-99" });
  const text = await new Response(exported.stream()).text();
  expect(text).toBe(LINES.slice(100).join(""));
  expect(asked[0]!.searchParams.get("after")).toBe("id-99");
});

test.each([
  ["the last record", 1, 3],
  ["the last thirty records", 30, 8],
  ["everything that has arrived", 200, 10],
])("where %s was deleted after a cut, it goes on behind one before, and gives nothing twice", async (_, deleted, requests) => {
  let have = 0;
  const { client, asked } = await serving((request, response) => {
    const url = new URL(request.url!, "http://store.test");
    if (have === 0) {
      have = 120;
      response.write(LINES.slice(0, have).join(""), () => response.destroy());
      return;
    }
    const left = LINES.filter((_line, index) => index < have - deleted || index >= have);
    const after = url.searchParams.get("after");
    const at = left.findIndex((line) => line.includes(`"${after}"`));
    response.statusCode = after !== null && at < 0 ? 404 : 200;
    const lines = left.slice(at + 1);
    const error = { type: "invalid_request_error", code: "invalid_cursor", message: "There is no such trajectory." };
    response.end(response.statusCode === 200 ? lines.join("") + end(lines) : JSON.stringify({ error }));
  });
  const exported = client.trajectories.exportJsonl();
  const text = await new Response(exported.stream()).text();
  expect(text).toBe(LINES.join(""));
  expect(exported.exported).toEqual({ count: 200, sha256: sha256(text), cursor: "id-199" });
  expect(asked.length).toBe(requests);
});

test("an unknown `after` is an error without further attempts", async () => {
  const { client, asked } = await serving((_request, response) => {
    response.statusCode = 404;
    response.end(JSON.stringify({ error: { type: "t", code: "invalid_cursor", message: "no" } }));
  });
  const stream = client.trajectories.exportJsonl({ after: "unknown" }).stream();
  await expect(new Response(stream).text()).rejects.toMatchObject({ code: "invalid_cursor" });
  expect(asked.length).toBe(1);
});

test("a refused export fails at once, and a 503 is retried", async () => {
  const statuses = [503, 400];
  const { client, asked } = await serving((_request, response) => {
    response.statusCode = statuses.shift() ?? 200;
    response.end(JSON.stringify({ error: { type: "t", code: "export_behind", message: "no" } }));
  });
  await expect(ids(client)).rejects.toBeInstanceOf(BadRequestError);
  expect(asked.length).toBe(2);
});

test("stopping the iteration closes the connection", async () => {
  let isClosed = false;
  const { client } = await serving((_request, response) => {
    response.on("close", () => (isClosed = true));
    response.write(LINES.join("")); // and never ends
  });
  for await (const { id } of client.trajectories.exportJsonl()) if (id === "id-3") break;
  await vi.waitUntil(() => isClosed);
  isClosed = false;
  const reader = client.trajectories.exportJsonl().stream().getReader();
  await reader.read();
  await reader.cancel();
  await vi.waitUntil(() => isClosed);
});

test("a signal aborts an export with its reason", async () => {
  const { client } = await serving((_request, response) => void response.write(LINES.join("")));
  const controller = new AbortController();
  const exported = client.trajectories.exportJsonl({}, { signal: controller.signal });
  const reason = new Error("enough");
  const reading = (async () => {
    for await (const { id } of exported) if (id === "id-199") controller.abort(reason);
  })();
  await expect(reading).rejects.toBe(reason);
});
