/** Propensities: probabilities with which a policy picks an arm, such as a model. */

/** Options of {@link thompsonPropensity}. */
export interface PropensityOptions {
  /** Draws of each arm, 10,000 by default. The standard error is at most 0.5 / sqrt(samples). */
  samples?: number | undefined;
  /** An integer of 32 bits. The same seed gives the same results; record it in `exploration` with `samples`. Default: a new one each time. */
  seed?: number | undefined;
}

/**
 * Returns the probability with which Thompson sampling picks each arm, by Monte Carlo.
 *
 * An arm is picked if its draw from Beta(1 + successes, 1 + failures) is the greatest. Each arm gets (draws won + 1/arms) /
 * (samples + 1), so the results add up to 1 and none is 0. The Python SDK uses another generator, so a seed gives other results there.
 *
 * @param counts - successes and failures of each arm, at least 0. Fractions are valid.
 * @throws RangeError: no arm, a count that is negative or not finite, or fewer than one sample.
 *
 * Source: Thompson, Biometrika 25 (1933), with uniform priors.
 */
export function thompsonPropensity<Arm extends string>(
  counts: Readonly<Record<Arm, { successes: number; failures: number }>>,
  { samples = 10_000, seed = Math.floor(Math.random() * 2 ** 32) }: PropensityOptions = {},
): Record<Arm, number> {
  const arms = Object.keys(counts) as Arm[];
  if (arms.length === 0) throw new RangeError("counts must have at least one arm");
  if (!Number.isSafeInteger(samples) || samples < 1) throw new RangeError(`samples must be an integer of at least 1, got ${samples}`);
  for (const [arm, { successes, failures }] of Object.entries<{ successes: number; failures: number }>(counts)) {
    const isCount = (count: number) => Number.isFinite(count) && count >= 0;
    if (!isCount(successes) || !isCount(failures)) {
      throw new RangeError(`The counts of ${JSON.stringify(arm)} must be finite numbers of at least 0, got ${successes} and ${failures}`);
    }
  }
  const uniform = uniformOf(seed);
  const betas = arms.map((arm) => [gammaOf(uniform, 1 + counts[arm].successes), gammaOf(uniform, 1 + counts[arm].failures)] as const);
  const wins = arms.map(() => 0);
  for (let sample = 0; sample < samples; sample++) {
    // A Beta variate is X / (X + Y) of two gamma variates, which grows with X / Y.
    const draws = betas.map(([success, failure]) => success() / failure());
    wins[draws.indexOf(Math.max(...draws))]!++;
  }
  return Object.fromEntries(arms.map((arm, at) => [arm, (wins[at]! + 1 / arms.length) / (samples + 1)])) as Record<Arm, number>;
}

/** Returns a generator of gamma variates of a shape of at least 1. Source: Marsaglia and Tsang, ACM TOMS 26 (2000). */
function gammaOf(uniform: () => number, shape: number): () => number {
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  return () => {
    for (;;) {
      const x = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
      const v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(uniform()) < 0.5 * x * x + d * (1 - v + Math.log(v))) return d * v;
    }
  };
}

/** Returns a generator of numbers between 0 and 1, both excluded. Source: SplitMix with the 32-bit mixer of Wellons' Hash Prospector. */
function uniformOf(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (((mixed ^ (mixed >>> 15)) >>> 0) + 0.5) / 2 ** 32;
  };
}
