// nbdfuse obeys a server's block sizes for every request of the kernel, and never changes neighbouring bytes.
//
// nbdkit's blocksize-policy filter refuses (EINVAL) every request that breaks them.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/index.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit');

const SIZE = 8 * 1024 * 1024;

interface Policy {
  readonly minimum: number;
  readonly maximum: number;
  readonly size: number;
  /** The reaction of the filter to a request that breaks its sizes. */
  readonly otherwise?: 'allow' | 'error';
}

async function mountPolicy(
  scope: Scope,
  { minimum, maximum, size, otherwise = 'error' }: Policy,
): Promise<MountedDisk> {
  const policy = [
    `blocksize-minimum=${minimum}`,
    `blocksize-preferred=${Math.max(4096, minimum)}`,
    `blocksize-maximum=${maximum}`,
    `blocksize-error-policy=${otherwise}`,
  ];
  const filters = ['--filter=blocksize-policy', '--filter=log'];
  const server = [
    '[',
    'nbdkit',
    ...filters,
    'memory',
    String(size),
    ...policy,
    `logfile=${scope.path('log')}`,
    ']',
  ];
  return mountDisk(scope, { server, options: ['--cache=none'] });
}

const STRICT = ['blocksize-minimum=4096', 'blocksize-preferred=4096', 'blocksize-maximum=64K'].concat(
  'blocksize-error-policy=error',
);

const policies: readonly Policy[] = [512, 4096, 65_536].flatMap((minimum) => [
  { minimum, maximum: 65_536, size: SIZE },
  { minimum, maximum: 65_536, size: SIZE - 65_536 + minimum },
  { minimum, maximum: 32 * 1024 * 1024, size: SIZE },
  // The tail is shorter than a block: requests for it succeed only if the server allows them.
  { minimum, maximum: 65_536, size: SIZE - 100, otherwise: 'allow' },
]);

it.each(policies)('block sizes: writes and reads any range with %o', async (policy) => {
  const scope = createScope();
  const disk = await mountPolicy(scope, policy);
  const handle = await openFile(scope, disk.file, 'r+');
  const model = Buffer.alloc(policy.size);
  let seed = 1;
  const random = (below: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  for (let i = 0; i < 60; i++) {
    const length = 1 + random(i % 3 === 0 ? 300_000 : 5000);
    const offset = random(policy.size - length);
    const bytes = Buffer.alloc(length, 1 + random(255));
    await handle.write(bytes, 0, length, offset);
    bytes.copy(model, offset);
    const from = Math.max(0, offset - random(9000));
    const count = Math.min(length + random(9000), policy.size - from);
    const { buffer } = await handle.read(Buffer.alloc(count), 0, count, from);
    expect(buffer.equals(model.subarray(from, from + count))).toBe(true);
  }
  const whole = readFileSync(disk.file);
  expect(whole.equals(model)).toBe(true);
  await handle.close();
});

it('block sizes: concurrent writes to neighbours in one block lose no data', async () => {
  const scope = createScope();
  const disk = await mountPolicy(scope, { minimum: 65_536, maximum: 65_536, size: SIZE });
  const handle = await openFile(scope, disk.file, 'r+');
  const others = await Promise.all(Array.from({ length: 7 }, () => openFile(scope, disk.file, 'r+')));
  const handles = [handle, ...others];
  await Promise.all(
    Array.from({ length: 256 }, (_, i) =>
      handles[i % handles.length].write(Buffer.alloc(1000, 1 + (i % 255)), 0, 1000, i * 1000),
    ),
  );
  const whole = readFileSync(disk.file);
  for (let i = 0; i < 256; i++) {
    expect(whole.subarray(i * 1000, (i + 1) * 1000).equals(Buffer.alloc(1000, 1 + (i % 255)))).toBe(true);
  }
});

it('block sizes: a strict server can refuse only the rest of a size that is no multiple', async () => {
  const scope = createScope();
  const minimum = 4096;
  const disk = await mountPolicy(scope, { minimum, maximum: 65_536, size: SIZE - 100 });
  const whole = SIZE - minimum;
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(5000, 7), 0, 5000, whole - 5000);
  const { buffer } = await handle.read(Buffer.alloc(5001), 0, 5001, whole - 5001);
  expect(buffer.equals(Buffer.alloc(5001, 7).fill(0, 0, 1))).toBe(true);
  await expect(handle.read(Buffer.alloc(10), 0, 10, whole)).rejects.toThrow('EINVAL');
  await expect(handle.write(Buffer.alloc(10), 0, 10, whole)).rejects.toThrow('EINVAL');
  const client = await NbdClient.connect({
    command: ['nbdkit', '-s', '--filter=blocksize-policy', 'memory', String(SIZE - 100), ...STRICT],
  });
  scope.add(() => client.close());
  await client.write(whole - 5000, Buffer.alloc(5000, 7));
  expect((await client.read(0, whole)).subarray(-5000).equals(Buffer.alloc(5000, 7))).toBe(true);
  expect((await client.blockStatus(0, whole))['base:allocation'].length).toBe(2);
  await expect(client.read(whole, 10)).rejects.toMatchObject({ errno: 22 });
});

it('block sizes: a large request is split at the maximum', async () => {
  const scope = createScope();
  const disk = await mountPolicy(scope, { minimum: 512, maximum: 65_536, size: SIZE });
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.read(Buffer.alloc(1024 * 1024), 0, 1024 * 1024, 0);
  const lines = readFileSync(scope.path('log'), 'utf8').split('\n');
  const counts = lines.flatMap((line) => / Read id=\d+ offset=\S+ count=0x([0-9a-f]+)/.exec(line)?.[1] ?? []);
  const lengths = counts.map((count) => Number.parseInt(count, 16));
  expect(Math.max(...lengths)).toBe(65_536);
  // The kernel may request a little more if the buffer is not aligned.
  expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThan(1024 * 1024 + 8192);
  expect(lengths.length).toBeGreaterThanOrEqual(16);
});
