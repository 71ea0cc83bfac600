// Every packaged server over every transport that it has, by the library and as a mounted file: connect,
// list, size, write, read, flush, and the same bytes in the file behind it afterwards.

import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NbdClient } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { makePki } from '../../support/run/certificates.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { Scope } from '../../support/run/scope.js';
import { type Named, TRANSPORTS } from '../../support/transports.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-storage-daemon', 'nbd-server', 'certtool');

const SIZE = 4 * 1024 * 1024;
const BY_LIBRARY = Buffer.alloc(100_000, 'by the library; ');
const BY_MOUNT = Buffer.alloc(100_000, 'by the mount; ');

let common: Scope;
let pki: string;

beforeAll(() => {
  common = new Scope();
  pki = makePki(common.path('pki'));
});

afterAll(() => common.close());

async function listed(words: readonly string[]): Promise<readonly { name: string; size: number }[]> {
  const text = await runProgram('node', NBDFUSE, '--list', '--json', ...words);
  return (JSON.parse(text) as { exports: { name: string; size: number }[] }).exports;
}

async function useLibrary({ library, exportName, readOnly = false }: Named): Promise<void> {
  const address = await library();
  const options = typeof address === 'string' ? {} : { exportName };
  const client = await NbdClient.connect(address, { onStderr: () => undefined, ...options });
  try {
    expect([client.size, client.readOnly]).toEqual([BigInt(SIZE), readOnly]);
    if (!readOnly) {
      await client.write(12_345, BY_LIBRARY);
      if (client.canFlush) await client.flush();
    }
    expect((await client.read(0, 5)).toString()).toBe('first');
    if (!readOnly) expect((await client.read(12_345, BY_LIBRARY.length)).equals(BY_LIBRARY)).toBe(true);
  } finally {
    await client.close();
  }
}

async function useMount(scope: Scope, { mount, readOnly = false }: Named): Promise<void> {
  const options = ['--cache=none', ...(mount.options ?? [])];
  const disk = await mountDisk(scope, { ...mount, options });
  expect((await readAt(disk.file, 0, SIZE + 1)).length).toBe(SIZE);
  if (!readOnly) {
    const handle = await openFile(scope, disk.file, 'r+');
    await handle.write(BY_MOUNT, 0, BY_MOUNT.length, 2_000_001);
    await handle.sync();
    const { buffer } = await handle.read(Buffer.alloc(BY_LIBRARY.length), 0, BY_LIBRARY.length, 12_345);
    expect(buffer.equals(BY_LIBRARY)).toBe(true);
    await handle.close();
    expect((await readAt(disk.file, 2_000_001, BY_MOUNT.length)).equals(BY_MOUNT)).toBe(true);
  }
  expect(await disk.stop()).toBe(0);
}

it.each(Object.keys(TRANSPORTS))('transports: %s', async (name) => {
  const scope = createScope();
  const file = scope.path('disk.raw');
  writeFileSync(file, 'first');
  truncateSync(file, SIZE);
  const named = await TRANSPORTS[name](scope, file, pki);
  if (named.list !== undefined) {
    const found = (await listed(named.list)).find((one) => one.name === named.exportName);
    expect(found?.size).toBe(SIZE);
  }
  await useLibrary(named);
  await useMount(scope, named);
  if (named.readOnly) return;
  const bytes = readFileSync(file);
  expect(bytes.subarray(12_345, 12_345 + BY_LIBRARY.length).equals(BY_LIBRARY)).toBe(true);
  expect(bytes.subarray(2_000_001, 2_000_001 + BY_MOUNT.length).equals(BY_MOUNT)).toBe(true);
});
