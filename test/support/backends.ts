// The two FUSE backends, for tables of tests that hold on either.
//
// Used by it.each in test/system/real. What only the kernel backend can do is tested with that alone, and what
// fuse-native says instead is in fuse-native.test.ts.

/** Words for the title, and the option that chooses the backend. */
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
