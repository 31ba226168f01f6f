import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Two cores do well with two; more would fight over them.
    maxWorkers: 2,
    testTimeout: 30_000,
    restoreMocks: true,
    sequence: { shuffle: true },
  },
});
