import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // CI has two cores.
    maxWorkers: 2,
    testTimeout: 30_000,
    restoreMocks: true,
    sequence: { shuffle: true },
  },
});
