// Mounts an image and reads it with reader.ts.

import { fileURLToPath } from 'node:url';
import { runWithin } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';
import type { MountWords } from '../sides.js';

const PROGRAM = fileURLToPath(new URL('./reader.js', import.meta.url));

/** Seconds that one read of a whole image, or some visits, may take. */
const PATIENCE_SECONDS = 600;

async function read(scope: Scope, ...words: readonly string[]): Promise<readonly number[]> {
  const output = await runWithin(scope, PATIENCE_SECONDS, [process.execPath, PROGRAM, ...words]);
  return JSON.parse(output) as readonly number[];
}

/** Seconds of reading a file from its start to its end. @throws Error when a byte differs from the raw image's */
export async function readWhole(scope: Scope, file: string, raw: string): Promise<number> {
  const [seconds] = await read(scope, 'whole', file, raw);
  return seconds;
}

/** Seconds of each visit to 60 places, with O_DIRECT. @throws Error when a byte differs from the raw image's */
export const readScattered = (
  scope: Scope,
  file: string,
  raw: string,
  visits: number,
): Promise<readonly number[]> => read(scope, 'scattered', file, raw, String(visits));

/** The seconds of a command, whose output must be the bytes of the raw image. @param line of shell */
export async function secondsOf(scope: Scope, line: string): Promise<number> {
  const before = performance.now();
  await runWithin(scope, PATIENCE_SECONDS, ['sh', '-c', line]);
  return (performance.now() - before) / 1000;
}

/** Checks once that the output of a command is the raw image. @throws Error */
export async function checkOutput(scope: Scope, line: string, raw: string): Promise<void> {
  await runWithin(scope, PATIENCE_SECONDS, ['sh', '-c', `${line} | cmp - "$1"`, 'sh', raw]);
}

/** C nbdfuse's words for an image at a URL, as its manual shows them: nbdkit's filter decodes. */
export const byCommand = (url: string, filter?: 'xz' | 'gzip'): MountWords => ({
  server: ['--command', 'nbdkit', '-s', 'curl', ...(filter === undefined ? [] : [`--filter=${filter}`]), url],
});
