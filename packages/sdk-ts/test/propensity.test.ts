import { expect, test } from "vitest";
import { thompsonPropensity } from "../src/index.js";

/** The probability that a draw of the first arm is greater: Miller, Formulas for Bayesian A/B Testing (2015), equation 6. */
function exactly([won, lost]: number[], [otherWon, otherLost]: number[]): number {
  const [a, b, c, d] = [won! + 1, lost! + 1, otherWon! + 1, otherLost! + 1];
  let sum = 0;
  for (let i = 0; i < a; i++) sum += Math.exp(logBeta(c + i, b + d) - logBeta(1 + i, b) - logBeta(c, d)) / (b + i);
  return sum;
}

function logBeta(a: number, b: number): number {
  return logFactorial(a - 1) + logFactorial(b - 1) - logFactorial(a + b - 1);
}

function logFactorial(n: number): number {
  let sum = 0;
  for (let i = 2; i <= n; i++) sum += Math.log(i);
  return sum;
}

test.each([
  [[0, 0], [0, 0]],
  [[3, 1], [2, 5]],
  [[40, 60], [45, 55]],
  [[900, 100], [1, 0]],
])("the arms %j and %j get the probabilities of the closed form", (first, second) => {
  const samples = 20_000;
  const [a, b] = [first, second].map(([successes, failures]) => ({ successes: successes!, failures: failures! }));
  const found = thompsonPropensity({ a: a!, b: b! }, { samples, seed: 7 });
  const expected = exactly(first, second);
  expect(Math.abs(found.a - expected)).toBeLessThan(4 * Math.sqrt((expected * (1 - expected)) / samples) + 1 / samples);
  expect(found.a + found.b).toBeCloseTo(1, 12);
});

test("no arm gets 0, and a seed gives the same results again", () => {
  const arms = { good: { successes: 10_000, failures: 0 }, bad: { successes: 0, failures: 500 } };
  expect(thompsonPropensity(arms, { samples: 8 })).toEqual({ good: 8.5 / 9, bad: 0.5 / 9 });
  const close = { a: { successes: 3.5, failures: 3 }, b: { successes: 2, failures: 1 } };
  const [one, again, other] = [1, 1, 2].map((seed) => thompsonPropensity(close, { samples: 500, seed }));
  expect(again).toEqual(one);
  expect(other).not.toEqual(one);
});

test.each([
  [{}, {}, "at least one arm"],
  [{ a: { successes: -1, failures: 0 } }, {}, 'The counts of "a" must be finite numbers of at least 0, got -1 and 0'],
  [{ a: { successes: 0, failures: NaN } }, {}, "got 0 and NaN"],
  [{ a: { successes: 0, failures: 0 } }, { samples: 0 }, "samples must be an integer of at least 1, got 0"],
])("impossible arguments are refused: %j %j", (counts, options, message) => {
  expect(() => thompsonPropensity(counts as Record<string, { successes: number; failures: number }>, options)).toThrow(message);
});
