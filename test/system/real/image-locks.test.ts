// One writer of an image: the second is refused, whatever the name and the format; readers and --share are not.

import { linkSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FileLocks } from '../../../src/linux/file-lock.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { blockAt, convertTo, createRaw } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startQemuNbd } from '../../support/run/servers.js';

requirePrograms('qemu-nbd', 'qemu-img', 'qemu-io', 'sfdisk');

const ALL = { offset: 0n, size: 0n };

/** Nbdfuse must refuse an image; returns the line. */
async function refusal(scope: Scope, image: string, ...options: string[]): Promise<string> {
  const program = startNbdfuse(scope, [...options, scope.path('second'), image]);
  expect(await program.ended).toBe(1);
  return program.stderr;
}

describe('second writable mount of an image', () => {
  it.each(['raw', 'qcow2'])('is refused, also by other names: %s', async (format) => {
    const scope = createScope();
    const raw = await createRaw(scope, 1, 'source');
    const image = await convertTo(scope, raw, format, `disk.${format}`);
    symlinkSync(image, scope.path(`symbolic.${format}`));
    linkSync(image, scope.path(`hard.${format}`));
    const first = await mountDisk(scope, { server: [image] });
    for (const name of ['disk', 'symbolic', 'hard']) {
      expect(await refusal(scope, scope.path(`${name}.${format}`))).toMatch(
        /^nbdfuse: \S+ is in use by another nbdfuse: end that first, or use --share to look at the image meanwhile\n$/,
      );
    }
    const second = await mountDisk(scope, { server: [image], options: ['--share'], name: 'second' });
    expect(await blockAt(second.file, 8192)).toBe(2);
    expect(await second.stop()).toBe(0);
    expect(await first.stop()).toBe(0);
  });

  it('is allowed once the first has ended, or was killed', async () => {
    const scope = createScope();
    const image = await createRaw(scope, 1);
    const first = await mountDisk(scope, { server: [image], options: ['--daemon'] });
    expect(await refusal(scope, image)).toContain('is in use by another nbdfuse');
    await runProgram('umount', first.mountpoint);
    const second = await mountDisk(scope, { server: [image] });
    await second.stop('SIGKILL');
    await runProgram('umount', '-l', second.mountpoint);
    const third = await mountDisk(scope, { server: [image] });
    expect(await third.stop()).toBe(0);
  });

  it('is refused for an overlay too, but two overlays of one image are allowed', async () => {
    const scope = createScope();
    const image = await createRaw(scope, 1);
    const kept = `--overlay=${scope.path('kept.qcow2')}`;
    await mountDisk(scope, { server: [image], options: [kept] });
    expect(await refusal(scope, image, kept)).toContain('kept.qcow2 is in use by another nbdfuse');
    await mountDisk(scope, { server: [image], options: ['--overlay'], name: 'other' });
  });

  it('is allowed for another partition of a raw disk, and for a reader', async () => {
    const scope = createScope();
    const image = scope.path('disk.img');
    writeFileSync(image, Buffer.alloc(8 << 20));
    await runProgram('sh', '-c', `printf '1M,1M\\n3M,1M\\n' | sfdisk -q --label dos ${image}`);
    const one = await mountDisk(scope, { server: [image], options: ['--partition=1'], name: 'one' });
    const two = await mountDisk(scope, { server: [image], options: ['--partition=2'], name: 'two' });
    await writeAt(one.file, Buffer.from('one'), 0);
    await writeAt(two.file, Buffer.from('two'), 0);
    expect(await refusal(scope, image, '--partition=2')).toContain('is in use by another nbdfuse');
    expect(await refusal(scope, image)).toContain('is in use by another nbdfuse');
    for (const disk of [one, two]) expect(await disk.stop()).toBe(0);
    const reader = await mountDisk(scope, { server: [image], options: ['-r'], name: 'reader' });
    expect((await readAt(reader.file, 3 << 20, 3)).toString()).toBe('two');
  });
});

describe('file below a mount that writes', () => {
  it.each(['raw', 'qcow2'])(
    'is kept from writers, and the mount from a file that is written: %s',
    async (format) => {
      const scope = createScope();
      const base = await convertTo(scope, await createRaw(scope, 1, 'source'), format, `base.${format}`);
      const child = scope.path('child.qcow2');
      await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', format, '-b', base, child);
      const inUse =
        /^nbdfuse: \S+base\.\S+ is in use by .*: end that first, or use --share to look at the image/m;
      for (const words of [[child], ['--overlay', base], [`--overlay=${scope.path('kept.qcow2')}`, base]]) {
        const [server = '', ...options] = words.toReversed();
        const above = await mountDisk(scope, { server: [server], options, name: 'above' });
        expect(await refusal(scope, base)).toMatch(inUse);
        expect(await above.stop()).toBe(0);
        const below = await mountDisk(scope, { server: [base], name: 'below' });
        expect(await refusal(scope, server, ...options)).toMatch(inUse);
        expect(await below.stop()).toBe(0);
      }
    },
  );
});

describe('image that a program of QEMU writes to', () => {
  it('is refused, and shown with --share', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    await startQemuNbd(scope, '-f', 'qcow2', image);
    for (const options of [[], ['-r'], ['--overlay']]) {
      expect(await refusal(scope, image, ...options)).toMatch(
        /nbdfuse: \S+disk\.qcow2 is in use by a virtual machine or another program of QEMU: end that first, or use --share/,
      );
    }
    const disk = await mountDisk(scope, { server: [image], options: ['--share'] });
    expect(await blockAt(disk.file, 8192)).toBe(2);
    await expect(writeAt(disk.file, Buffer.from('x'), 0)).rejects.toThrow(/EACCES|EROFS|EPERM/);
  });

  it('is allowed for another partition, also if nbdfuse takes the locks of QEMU', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    const [first, second, all] = [new FileLocks(), new FileLocks(), new FileLocks()];
    for (const one of [first, second, all]) scope.add(() => one.release());
    expect(first.lockForWriting(raw, { offset: 0n, size: 4096n }, true)).toBeUndefined();
    expect(second.lockForWriting(raw, { offset: 4096n, size: 4096n }, true)).toBeUndefined();
    expect(all.lockForWriting(raw, ALL, true)).toBe('nbdfuse');
    all.release();
    const write = runProgram('qemu-io', '-f', 'raw', '-c', 'write 0 512', raw);
    await expect(write).rejects.toThrow(/Failed to get "write" lock/);
  });

  it('is noticed by the lock of a mount whose server takes none', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    const { program } = await startQemuNbd(scope, '-f', 'qcow2', image);
    const [refused, locks, others] = [new FileLocks(), new FileLocks(), new FileLocks()];
    for (const one of [refused, locks, others]) scope.add(() => one.release());
    expect(refused.lockForWriting(image, ALL, true)).toBe('QEMU');
    refused.release();
    expect(locks.lockForWriting(image, ALL, false)).toBeUndefined();
    expect(others.lockForWriting(image, ALL, false)).toBe('nbdfuse');
    await program.kill('SIGTERM');
    expect(locks.lockForWriting(raw, ALL, true)).toBeUndefined();
    expect(await refusal(scope, raw)).toContain('is in use by another nbdfuse');
    const write = runProgram('qemu-io', '-f', 'raw', '-c', 'write 0 512', raw);
    await expect(write).rejects.toThrow(/Failed to get "write" lock/);
  });
});
