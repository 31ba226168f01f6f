import { inspect } from "node:util";
import { afterEach, expect, test, vi } from "vitest";
import { Config, TrajectoryClient } from "../src/index.js";
import { json, Script } from "./script.js";

afterEach(() => vi.unstubAllEnvs());

test("without options the address and the key come from the environment", () => {
  vi.stubEnv("TRAJSTORE_BASE_URL", "https://store.example.com/app/");
  vi.stubEnv("TRAJSTORE_API_KEY", "from.environment");
  expect(new Config()).toMatchObject({ baseUrl: "https://store.example.com/app", apiKey: "from.environment" });
  expect(new Config({ baseUrl: "http://other.test", apiKey: "given" })).toMatchObject({
    baseUrl: "http://other.test",
    apiKey: "given",
  });
});

test("without variables the client uses localhost and no key", async () => {
  vi.stubEnv("TRAJSTORE_BASE_URL", "");
  vi.stubEnv("TRAJSTORE_API_KEY", " ");
  vi.stubEnv("TRAJECTORY_BASE_URL", "https://other.example"); // of another vendor's product
  vi.stubEnv("TRAJECTORY_API_KEY", "theirs");
  expect(new Config()).toMatchObject({ baseUrl: "http://127.0.0.1:8000", apiKey: null, timeoutS: 30, maxRetries: 4 });
  const script = new Script(json({ count: 0 }));
  await new TrajectoryClient({ fetch: script.fetch }).trajectories.stats();
  expect(script.asked[0]!.headers.has("Authorization")).toBe(false);
});

test("dumps of a client do not contain the key", () => {
  const client = new TrajectoryClient({ apiKey: "made-up.key", headers: { "X-Proxy": "made-up too" } });
  expect(inspect(client, { depth: 9, showHidden: true })).not.toContain("made-up");
  expect(JSON.stringify(client)).not.toContain("made-up");
  expect(client.config.apiKey).toBe("made-up.key");
});

test("the path of baseUrl is kept, and given headers override those of the SDK", async () => {
  const script = new Script(json({ count: 0 }));
  const client = script.client({ baseUrl: "http://store.test/app/", headers: { authorization: "Other", "X-Own": "1" } });
  await client.trajectories.stats();
  expect(script.asked[0]!.url.href).toBe("http://store.test/app/v1/agent/trajectories/stats");
  expect(script.asked[0]!.headers.get("Authorization")).toBe("Other");
  expect(script.asked[0]!.headers.get("X-Own")).toBe("1");
});

test.each([
  ["baseUrl", { baseUrl: "store.example.com" }],
  ["baseUrl", { baseUrl: "ftp://store.example.com" }],
  ["baseUrl", { baseUrl: "https://store.example.com/?x=1" }],
  ["baseUrl", { baseUrl: "https://user:made-up@store.example.com" }],
  ["apiKey", { apiKey: "two\nlines" }],
  ["timeoutS", { timeoutS: 0 }],
  ["maxRetries", { maxRetries: -1 }],
])("an invalid option is an error in the constructor: %s", (name, options) => {
  expect(() => new TrajectoryClient(options)).toThrow(TypeError);
  expect(() => new TrajectoryClient(options)).toThrow(name);
});

test("the error about an invalid key does not quote it", () => {
  expect(() => new TrajectoryClient({ apiKey: "made up" })).toThrow(/^(?!.*made up)/);
});
