// openImage: images by name, as the command line opens them.

import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { expect, it } from 'vitest';
import {
  ImageError,
  NbdArgumentError,
  type NbdClient,
  type NbdError,
  openImage,
} from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { BLOCK, blockOf, convertTo, createRaw } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'xz');

const MIB = 1024 * 1024;

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'resolved',
    (error: NbdError) => error.code,
  );

/** The words of the command line of a process; none once it has ended. */
function wordsOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** The processes that name a path in their command line. @param program only those that run this program or script */
function processesWith(path: string, program?: string): number[] {
  const isMeant = (pid: string): boolean => {
    const words = wordsOf(pid);
    if (!words.some((word) => word.includes(path))) return false;
    return program === undefined || words.slice(0, 2).some((word) => basename(word) === program);
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isMeant(name))
    .map(Number);
}

/** The names of the events of a client, in their order. */
function eventsOf(client: NbdClient): string[] {
  const events: string[] = [];
  for (const name of ['reconnecting', 'reconnected', 'refused', 'close'] as const)
    client.on(name, () => events.push(name));
  return events;
}

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

it('openImage: with reconnect, starts a killed qemu-nbd again, and tells what it may have forgotten', async () => {
  const scope = createScope();
  const image = await convertTo(scope, await createRaw(scope, 2), 'qcow2', 'disk.qcow2');
  {
    await using disk = await openImage(image, { reconnect: 60, onStderr: () => undefined });
    const events = eventsOf(disk);
    await disk.write(BLOCK, Buffer.from('durable'), { fua: true });
    for (let round = 0; round < 2; round++) {
      await disk.write(0, Buffer.from('forgotten'));
      const lost = once(disk, 'lost');
      for (const pid of processesWith(image, 'qemu-nbd')) process.kill(pid, 'SIGKILL');
      await lost;
      expect((await disk.read(BLOCK, 7)).toString()).toBe('durable');
      expect(await codeOf(disk.flush())).toBe('ERR_NBD_UNFLUSHED_LOST');
      await disk.write(0, Buffer.from('again'));
      await disk.flush();
    }
    expect(events).toEqual(['reconnecting', 'reconnected', 'reconnecting', 'reconnected']);
  }
  await until('the end of its server', () => processesWith(image, 'qemu-nbd').length === 0);
  await using again = await openImage(image, { readOnly: true });
  expect((await again.read(0, 5)).toString()).toBe('again');
}, 60_000);

it('openImage: without reconnect, closes when its server is killed', async () => {
  const scope = createScope();
  const image = await convertTo(scope, await createRaw(scope, 1), 'qcow2', 'disk.qcow2');
  await using disk = await openImage(image, { onStderr: () => undefined });
  for (const pid of processesWith(image, 'qemu-nbd')) process.kill(pid, 'SIGKILL');
  expect((await disk.closed).message).toContain('the connection to the server was lost');
  expect(await codeOf(disk.read(0, 1))).toBe('ENOTCONN');
}, 60_000);

it('openImage: with reconnect, waits for the server of an export that is killed and started again', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 2);
  const first = await startNbdkit(scope, 'file', raw);
  await using disk = await openImage(first.uri(), { reconnect: 60 });
  await using reader = await openImage(first.uri(), { reconnect: 60, readOnly: true });
  expect([disk.readOnly, reader.readOnly]).toEqual([false, true]);
  expect(await codeOf(reader.write(0, Buffer.from('x')))).toBe('EPERM');
  const events = eventsOf(disk);
  const away = [once(disk, 'reconnecting'), once(reader, 'reconnecting')];
  first.program.child.kill('SIGKILL');
  await Promise.all(away);
  const waiting = [disk.write(0, Buffer.from('later')), reader.read(BLOCK, BLOCK)] as const;
  await first.program.ended;
  await startNbdkit(scope, 'file', raw);
  await waiting[0];
  expect(await waiting[1]).toEqual(blockOf(1));
  expect((await disk.read(0, 5)).toString()).toBe('later');
  expect(events).toEqual(['reconnecting', 'reconnected']);
}, 60_000);

it('openImage: with reconnect, starts the server of a cache file again, and takes only the end of the server below for proof', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 2);
  const first = await startNbdkit(scope, '--filter=delay', 'file', raw, 'wdelay=500ms');
  const cacheFile = scope.path('cache');
  await using disk = await openImage(first.uri(), { cacheFile, reconnect: 60 });
  const events = eventsOf(disk);
  expect(await disk.read(BLOCK, BLOCK)).toEqual(blockOf(1));
  const writing = codeOf(disk.write(0, Buffer.alloc(4096, 1)));
  await disk.read(MIB, BLOCK);
  const lost = once(disk, 'lost');
  for (const pid of processesWith(cacheFile, 'nbdfuse-chunks')) process.kill(pid, 'SIGKILL');
  await lost;
  expect(await writing).toBe('ERR_NBD_CHANGE_UNKNOWN');
  expect(await disk.read(2 * BLOCK, BLOCK)).toEqual(blockOf(2));
  expect(await codeOf(disk.write(0, Buffer.alloc(4096, 2)))).toBe('ERR_NBD_RANGE_IN_DOUBT');
  first.program.child.kill('SIGKILL');
  await first.program.ended;
  await startNbdkit(scope, 'file', raw);
  const again = (): Promise<string> => codeOf(disk.write(0, Buffer.alloc(4096, 3)));
  await until('the proof', async () => (await again()) === 'resolved');
  expect((await disk.read(0, 4096)).equals(Buffer.alloc(4096, 3))).toBe(true);
  expect(events.slice(0, 2)).toEqual(['reconnecting', 'reconnected']);
}, 60_000);

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
  expect(processesWith(scope.path('disk.qcow2'))).toEqual([]);
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
    ['disk.raw', { overlay: true, reconnect: 1 }],
    ['disk.raw', { reconnect: -1 }],
    ['disk.raw', { settleTime: 'soon' }],
  ] as const;
  for (const [name, options] of wrong)
    await expect(openImage(name, options as object), JSON.stringify(options)).rejects.toBeInstanceOf(
      NbdArgumentError,
    );
});
