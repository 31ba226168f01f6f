import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { Sha256 } from "../src/sha256.js";

const bytes = randomBytes(70_000);

function theirs(length: number): string {
  return createHash("sha256").update(bytes.subarray(0, length)).digest("hex");
}

test("the hash is that of node:crypto for every length up to four blocks", () => {
  for (let length = 0; length <= 4 * 64; length++) {
    expect(new Sha256().update(bytes.subarray(0, length)).hex(), `${length} bytes`).toBe(theirs(length));
  }
});

test("the hash does not depend on how the bytes are cut into parts", () => {
  for (const size of [1, 3, 63, 64, 65, 127, 128, 4096, 70_000]) {
    const hash = new Sha256();
    for (let at = 0; at < bytes.length; at += size) hash.update(bytes.subarray(at, at + size));
    expect(hash.hex(), `parts of ${size}`).toBe(theirs(bytes.length));
  }
});

test("a length of more than 2^32 bits is told in full", () => {
  const part = new Uint8Array(64 * 1024 * 1024);
  const [ours, known] = [new Sha256(), createHash("sha256")];
  for (let at = 0; at < 2 ** 29 + part.length; at += part.length) {
    ours.update(part);
    known.update(part);
  }
  expect(ours.hex()).toBe(known.digest("hex"));
});
