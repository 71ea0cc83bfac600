// --all: every export of a server as a file of one directory.

import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'qemu-img', 'qemu-nbd', 'nbd-server');

const MIB = 1024 * 1024;

/** A folder with files of random content, by their names; the empty one is left out. */
function makeImages(scope: Scope, sizes: Readonly<Record<string, number>>): Map<string, Buffer> {
  mkdirSync(scope.path('images'));
  return new Map(
    Object.entries(sizes).map(([name, size]) => {
      const content = randomBytes(size);
      writeFileSync(scope.path('images', name), content);
      return [name, content];
    }),
  );
}

function mountAll(
  scope: Scope,
  server: readonly string[],
  ...options: readonly string[]
): Promise<MountedDisk> {
  return mountDisk(scope, { server, options: ['--all', ...options] });
}

const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

describe('--all', () => {
  it('shows the files of a directory that nbdkit serves, whatever their names', async () => {
    const scope = createScope();
    const long = 'l'.repeat(255);
    const images = makeImages(scope, {
      'disk.img': 2 * MIB,
      'a b%c': 4096,
      'new\nline\x1b[31m': 1000,
      'größe.raw': 512,
      '-rf': 1,
      [long]: 700,
    });
    const mount = await mountAll(scope, ['[', 'nbdkit', 'file', `dir=${scope.path('images')}`, ']']);
    const names = await readdir(mount.mountpoint);
    expect(names.sort()).toEqual(
      ['disk.img', 'a b%25c', 'new%0Aline%1B[31m', 'größe.raw', '-rf', long].sort(),
    );
    for (const name of names) {
      const content = images.get(decodeURIComponent(name)) ?? Buffer.alloc(0);
      expect((await stat(`${mount.mountpoint}/${name}`)).size, name).toBe(content.length);
      expect(hash(await readFile(`${mount.mountpoint}/${name}`)), name).toBe(hash(content));
    }
    expect(await mount.stop()).toBe(0);
    expect(mount.stderr).toBe('');
  });

  it('writes to several files at once, and has each at the server after its fsync', async () => {
    const scope = createScope();
    const images = makeImages(scope, { a: 4 * MIB, b: 4 * MIB, c: 4 * MIB });
    const server = await startNbdkit(scope, 'file', `dir=${scope.path('images')}`);
    const mount = await mountAll(scope, [server.uri()]);
    await Promise.all(
      [...images.keys()].map(async (name, i) => {
        const handle = await open(`${mount.mountpoint}/${name}`, 'r+');
        await handle.write(Buffer.alloc(2 * MIB, i + 1), 0, 2 * MIB, MIB);
        await handle.sync();
        const there = readFileSync(scope.path('images', name));
        expect(there.subarray(MIB, 3 * MIB).equals(Buffer.alloc(2 * MIB, i + 1))).toBe(true);
        expect(there.subarray(0, MIB).equals(images.get(name)?.subarray(0, MIB) ?? there)).toBe(true);
        await handle.close();
      }),
    );
    expect(await mount.stop()).toBe(0);
  });

  it('shows the one export of qemu-nbd as nbd, and starts qemu-nbd again after it has ended with its last client', async () => {
    const scope = createScope();
    const image = createQcow2(scope.path('disk.qcow2'), '8M');
    const mount = await mountAll(scope, ['[', 'qemu-nbd', '-f', 'qcow2', image, ']']);
    expect(await readdir(mount.mountpoint)).toEqual(['nbd']);
    expect((await stat(`${mount.mountpoint}/nbd`)).size).toBe(8 * MIB);
    const handle = await open(`${mount.mountpoint}/nbd`, 'r+');
    await handle.write(Buffer.alloc(MIB, 7), 0, MIB, MIB);
    await handle.close();
    expect(
      (await readFile(`${mount.mountpoint}/nbd`)).subarray(MIB, 2 * MIB).equals(Buffer.alloc(MIB, 7)),
    ).toBe(true);
    expect(await mount.stop()).toBe(0);
    await runProgram('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -P 7 1M 1M', image);
  });
});
