import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { padding, Sha256 } from "../src/sha256.js";

const bytes = randomBytes(70_000);

function theirs(length: number): string {
  return createHash("sha256").update(bytes.subarray(0, length)).digest("hex");
}

test("the hash equals that of node:crypto for every length up to four blocks", () => {
  for (let length = 0; length <= 4 * 64; length++) {
    expect(new Sha256().update(bytes.subarray(0, length)).hex(), `${length} bytes`).toBe(theirs(length));
  }
});

test("the hash does not depend on the parts of the input", () => {
  for (const size of [1, 3, 63, 64, 65, 127, 128, 4096, 70_000]) {
    const hash = new Sha256();
    for (let at = 0; at < bytes.length; at += size) hash.update(bytes.subarray(at, at + size));
    expect(hash.hex(), `parts of ${size}`).toBe(theirs(bytes.length));
  }
});

test.each([0, 1, 55, 56, 64, 2 ** 29 - 1, 2 ** 29, 2 ** 32 + 7, 2 ** 40 + 61])("the padding of %d bytes has their length in bits and fills a block", (length) => {
  const bytes = padding(length);
  expect((length + bytes.length) % 64).toBe(0);
  expect(bytes.length).toBeLessThanOrEqual(72);
  expect([...bytes.subarray(0, -8)]).toEqual([0x80, ...Array<number>(bytes.length - 9).fill(0)]);
  expect(new DataView(bytes.buffer).getBigUint64(bytes.length - 8)).toBe(BigInt(length) * 8n);
});
