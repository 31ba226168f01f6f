/**
 * A sum of numbers as they are written: 0.1 and 0.2 are 0.3.
 *
 * Exact, so a sum does not depend on the order in which parallel phases end, and is the same as the Python SDK's.
 */
export class DecimalSum {
  #units = 0n;
  #scale = 0;

  /** Adds a finite number. */
  add(value: number): void {
    const [digits, exponent] = parts(value);
    const scale = Math.max(this.#scale, -exponent);
    this.#units = this.#units * 10n ** BigInt(scale - this.#scale) + digits * 10n ** BigInt(scale + exponent);
    this.#scale = scale;
  }

  /** The nearest number. */
  toNumber(): number {
    return Number(`${this.#units}e-${this.#scale}`);
  }
}

/** The digits of a number in its shortest form, and the power of ten that they are multiplied with. */
function parts(value: number): [bigint, number] {
  const [mantissa = "", exponent = "0"] = String(value).split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  return [BigInt(whole + fraction), Number(exponent) - fraction.length];
}
