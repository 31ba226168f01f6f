import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { APIStatusError, TrajectoryClient } from "../src/index.js";
import { trajectory } from "./script.js";

test("a redirected POST is not repeated, and the key is not sent elsewhere", async () => {
  const asked: (string | undefined)[] = [];
  const server = createServer(({ method }, response) => {
    asked.push(method);
    response.writeHead(301, { Location: `http://127.0.0.1:${port}/elsewhere` }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const { trajectories } = new TrajectoryClient({ baseUrl: `http://127.0.0.1:${port}`, apiKey: "a.key" });
  const error = await trajectories.record(trajectory()).catch((thrown: unknown) => thrown);
  server.close();
  expect(error).toBeInstanceOf(APIStatusError);
  expect((error as APIStatusError).message).toContain("/elsewhere");
  expect(asked).toEqual(["POST"]);
});
