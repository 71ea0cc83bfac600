import { defineConfig } from 'vitest/config';

/** The tests of test/system/guest need what only the guest of scripts/guest/run has. */
const isGuest = process.env.NBDFUSE_GUEST !== undefined;

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: isGuest ? [] : ['test/system/guest/**'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: true,
    maxWorkers: 2,
  },
});
