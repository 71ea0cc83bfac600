// openImage: images by name, as the command line opens them.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ImageError, NbdArgumentError, openImage } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { BLOCK, blockOf, convertTo, createRaw } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'xz');

const MIB = 1024 * 1024;

it('openImage: reads and writes a qcow2 file, and ends its server and its locks', async () => {
  const scope = createScope();
  const image = await convertTo(scope, await createRaw(scope, 2), 'qcow2', 'disk.qcow2');
  const lines: string[] = [];
  const onMessage = (line: string): void => void lines.push(line);
  {
    await using disk = await openImage(image, { onMessage });
    expect(disk.size).toBe(BigInt(2 * MIB));
    expect(await disk.read(BLOCK * 2, BLOCK)).toEqual(blockOf(2));
    await disk.write(4096, Buffer.from('written'), { fua: true });
    expect(lines).toEqual([`${image} is qcow2; serving it with qemu-nbd`]);
    await expect(openImage(image)).rejects.toThrow(/is in use by /);
  }
  await using again = await openImage(image, { readOnly: true });
  expect(again.readOnly).toBe(true);
  expect((await again.read(4096, 7)).toString()).toBe('written');
});

it('openImage: decodes a compressed image, keeps it in a cache file, and reads it again from there', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 2);
  await runProgram('xz', '--keep', raw);
  const cacheFile = scope.path('cache');
  for (let visit = 0; visit < 2; visit++) {
    const messages: string[] = [];
    await using disk = await openImage(`${raw}.xz`, { cacheFile, onMessage: (line) => messages.push(line) });
    // Byte by byte, vitest would take seconds.
    expect((await disk.read(0, 2 * MIB)).equals(readFileSync(raw))).toBe(true);
    expect(messages.join('\n')).toContain('compressed with xz');
  }
  expect(await runProgram('cmp', cacheFile, raw)).toBe('');
});

it('openImage: opens an overlay, a partition of an NBD server, and an image that another program writes to', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 2);
  await runProgram('sh', '-c', 'echo "2048,1024,L" | sfdisk --quiet "$0"', raw);
  const before = readFileSync(raw);
  {
    await using disk = await openImage(raw, { overlay: true });
    await disk.write(MIB, Buffer.from('thrown away'));
    expect((await disk.read(MIB, 11)).toString()).toBe('thrown away');
  }
  expect(readFileSync(raw).equals(before)).toBe(true);
  const { uri } = await startNbdkit(scope, 'file', raw);
  await using part = await openImage(uri(), { partition: 1, readOnly: true });
  expect(part.size).toBe(BigInt(MIB / 2));
  expect(await part.read(0, BLOCK)).toEqual(before.subarray(MIB, MIB + BLOCK));
  const qcow2 = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
  await using writer = await openImage(qcow2);
  await using shared = await openImage(qcow2, { share: true });
  expect([writer.readOnly, shared.readOnly]).toEqual([false, true]);
  expect(await shared.read(MIB, BLOCK)).toEqual(before.subarray(MIB, MIB + BLOCK));
});

it('openImage: leaves no process behind when it fails, or when it is aborted', async () => {
  const scope = createScope();
  const notQcow2 = await createRaw(scope, 1, 'disk.qcow2');
  for (const [name, options] of [
    [scope.path('missing.raw'), {}],
    [scope.folder, {}],
    [notQcow2, {}],
    [notQcow2, { format: 'qcow2' }],
    [notQcow2, { format: 'raw', partition: 7 }],
  ] as const) {
    const failure = await openImage(name, options).catch((error: unknown) => error);
    expect(failure, name).toBeInstanceOf(ImageError);
    expect((failure as ImageError).message).not.toContain('\n');
  }
  const reason = new Error('aborted');
  const image = await convertTo(scope, notQcow2, 'qcow2', 'other.qcow2');
  const aborted = openImage(image, { signal: AbortSignal.abort(reason) });
  await expect(aborted).rejects.toBe(reason);
  await using disk = await openImage(image);
  expect(disk.size).toBe(BigInt(MIB));
  expect(await processesOf(scope.path('disk.qcow2'))).toEqual([]);
});

it('openImage: refuses wrong arguments before it looks at the image', async () => {
  const wrong = [
    ['', {}],
    ['disk.raw', { format: 'nonsense' }],
    ['disk.raw', { partition: 0 }],
    ['disk.raw', { partition: '1' }],
    ['disk.raw', { overlay: '' }],
    ['disk.raw', { cacheFile: '' }],
    ['disk.raw', { cacheSize: 1 }],
    ['disk.raw', { cacheFile: 'a', cacheDir: 'b' }],
    ['disk.raw', { share: true, cacheFile: 'a' }],
    ['disk.raw', { share: true, overlay: true }],
  ] as const;
  for (const [name, options] of wrong)
    await expect(openImage(name, options as object), JSON.stringify(options)).rejects.toBeInstanceOf(
      NbdArgumentError,
    );
});
