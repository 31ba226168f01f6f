import { expect, test } from "vitest";
import { DecimalSum } from "../src/decimals.js";

function sumOf(values: number[]): number {
  const sum = new DecimalSum();
  for (const value of values) sum.add(value);
  return sum.toNumber();
}

test("decimal numbers add up exactly", () => {
  expect(sumOf([0.1, 0.2])).toBe(0.3);
  expect(sumOf([0.0291, 0.021, 0.1719, 0.0134])).toBe(0.2354);
  expect(sumOf([1e-9, 1e-7, 12])).toBe(12.000000101);
});

test("the order of the numbers does not change the sum", () => {
  const values = [1e21, 1e-7, 3, 0.1, 2.5e-10, 7e5];
  expect(sumOf(values)).toBe(sumOf([...values].reverse()));
});

test("ten thousand cents add up to a hundred dollars", () => {
  expect(sumOf(Array<number>(10_000).fill(0.01))).toBe(100);
});

test("the sum of no numbers and of zeros is zero", () => {
  expect(sumOf([])).toBe(0);
  expect(sumOf([0, -0])).toBe(0);
});
