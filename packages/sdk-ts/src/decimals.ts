/**
 * An exact sum of decimal numbers: 0.1 + 0.2 is 0.3.
 *
 * The sum does not depend on the order in which parallel phases end, and equals the sum of the Python SDK.
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

  /** Returns the nearest number. */
  toNumber(): number {
    return Number(`${this.#units}e-${this.#scale}`);
  }
}

/** Returns the digits of a number in its shortest form, and their power of ten. */
function parts(value: number): [bigint, number] {
  const [mantissa = "", exponent = "0"] = String(value).split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  return [BigInt(whole + fraction), Number(exponent) - fraction.length];
}
