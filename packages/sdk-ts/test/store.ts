/** The running store for the tests that need one. */
import { TrajectoryClient } from "../src/index.js";

export const BASE_URL = process.env["TRAJSTORE_TEST_BASE_URL"] ?? "";
export const API_KEY = process.env["TRAJSTORE_TEST_API_KEY"] ?? "";
/** Why tests that need a store are skipped, or an empty string. The variables of the SDK may point to a store in use. */
export const MISSING = BASE_URL ? "" : " (skipped: TRAJSTORE_TEST_BASE_URL names no store)";

export function storeClient(): TrajectoryClient {
  return new TrajectoryClient({ baseUrl: BASE_URL, apiKey: API_KEY });
}
