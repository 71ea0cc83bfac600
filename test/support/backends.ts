// The two FUSE backends, for tables of tests that hold for both.
//
// Used by it.each in test/system/real. Tests of features that only the kernel backend has use only that one;
// fuse-native.test.ts has the messages of fuse-native instead.

/** The name for the title, and the option that chooses the backend. */
export const BACKENDS: readonly (readonly [string, readonly string[]])[] = [
  ['the kernel backend', ['--fuse-backend=kernel']],
  ['the fuse-native backend', ['--fuse-backend=fuse-native']],
];

/** Every row of a table with every backend: the row's cells, then the backend's two. */
export function withBackends<Row extends readonly unknown[]>(
  rows: readonly Row[],
): [...Row, string, readonly string[]][] {
  return rows.flatMap((row) =>
    BACKENDS.map(([name, words]): [...Row, string, readonly string[]] => [...row, name, words]),
  );
}
