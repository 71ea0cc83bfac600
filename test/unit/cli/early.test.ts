// The command lines that start the worker before they are parsed; a wrong guess does no harm.

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { OPTIONS } from '../../../src/cli/arguments/options.js';
import { MODE_WORDS } from '../../../src/cli/arguments/server-mode.js';
import { looksLikeMount } from '../../../src/cli/early.js';
import { scratchFolder } from '../../support/cleanup.js';
import { NBDFUSE } from '../../support/run/mount.js';

const wordsOf = (line: string): string[] => line.split(' ').filter((word) => word !== '');

describe('early worker start', () => {
  it.each([
    'dir nbd://host',
    '-P pid -o max_read=4096 -r dir/file nbd+unix:///?socket=s',
    '-C4 --cache=none --timeout 3 dir --tcp host 10809',
    '--pid-file=p dir [ nbdkit --help ]',
    'dir --command nbdkit -s --version',
    '--overlay dir image.qcow2',
    '--metrics=9000 dir --uri nbd://host',
    '--key-file disk.key --share --allow-references dir image.qcow2',
  ])('starts for a mount: %s', (line) => expect(looksLikeMount(wordsOf(line))).toBe(true));

  it.each([
    '',
    'dir',
    '--help',
    '-V',
    '--vers --verbose',
    '--list nbd://host',
    '--status dir',
    'cache list dir',
    'cache export a b',
    '--unmount dir',
    '--daemon dir nbd://host',
    '--fuse-backend=fuse-native dir nbd://host',
    '--print-command dir image.qcow2',
    '--completion bash',
  ])('does not start for: %s', (line) => expect(looksLikeMount(wordsOf(line))).toBe(false));
});

/** The options with which this process serves no mount, or none with the kernel backend. */
const NOT_SERVING = [
  ...['--daemon', '--fuse-backend', '--print-command', '--unmount'],
  ...['--list', '--status', '--list-mounts', '--watch', '--json'],
  ...['-h', '--help', '--fuse-help', '--completion', '-V', '--version', '--long-options', '--short-options'],
];

it('early worker start: knows every option of a mount, and every way to name a server', () => {
  const names = OPTIONS.flatMap((option) => option.names);
  expect(names.filter((name) => !looksLikeMount([name, 'dir', 'image.raw']))).toEqual(
    names.filter((name) => NOT_SERVING.includes(name)),
  );
  expect(NOT_SERVING.filter((name) => !names.includes(name))).toEqual([]);
  // An option of the server begins with a dash, too.
  expect(MODE_WORDS.filter((word) => !looksLikeMount(['dir', word, '--x']))).toEqual([]);
});

it('early worker start: ends in order for a command line that only looked like a mount', async () => {
  const program = promisify(execFile);
  const wrong = program(NBDFUSE, ['--cache=nonsense', 'dir', 'nbd://host'], { timeout: 20_000 });
  await expect(wrong).rejects.toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/^nbdfuse: [^\n]*nonsense[^\n]*\n$/),
  });
  // Shortened so far that the guess treats it as an option of the server.
  const { stdout } = await program(NBDFUSE, ['-vV', 'dir'], { timeout: 20_000 });
  expect(stdout).toMatch(/^nbdfuse \d/);
});

/** Runs a program that node runs, with few descriptors. */
const withDescriptors = (limit: number, ...words: readonly string[]) =>
  promisify(execFile)('sh', ['-c', `ulimit -n ${limit}; exec "$0" "$@"`, ...words]);

/** The fewest descriptors with which this node runs a script. */
async function fewestDescriptors(): Promise<number> {
  const script = join(scratchFolder(), 'empty.cjs');
  writeFileSync(script, '');
  for (let limit = 12; limit < 40; limit++) {
    const runs = withDescriptors(limit, process.execPath, script).then(
      () => true,
      () => false,
    );
    if (await runs) return limit;
  }
  throw new Error('node needs 40 descriptors');
}

it('early worker start: too few descriptors are one clear line', async () => {
  const fewest = await fewestDescriptors();
  for (let limit = fewest; limit < fewest + 10; limit++) {
    const program = withDescriptors(limit, NBDFUSE, 'dir', 'nbd://host');
    await expect(program, `${limit}`).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^nbdfuse: [^\n]*open files.*; raise .*: ulimit -n 1024\n$/),
    });
  }
});
