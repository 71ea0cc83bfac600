// --partitions: the disk and its partitions as files of one directory, with one server and one order of writes.

import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt, writeAt } from '../../support/files.js';
import { convertTo } from '../../support/images.js';
import { damage, partitionedDisk } from '../../support/partitions.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms(
  'qemu-nbd',
  'qemu-img',
  'nbdkit',
  'sfdisk',
  'partx',
  'losetup',
  'mkfs.ext4',
  'blkid',
  'python3',
);

const MIB = 1024 * 1024;
/** Byte of the disk at which a partition of the GPT begins, and its bytes. */
const P1 = { at: MIB, size: 4 * MIB };
const P2 = { at: 8 * MIB, size: 16 * MIB };

/** The output of --status. */
const statusText = (...words: readonly string[]): Promise<string> =>
  runShell('exec "$0" "$@"', process.execPath, NBDFUSE, '--status', ...words);

async function mountPartitions(scope: Scope, server: readonly string[], ...options: readonly string[]) {
  const disk = await mountDisk(scope, { server, options: ['--partitions', ...options] });
  return {
    disk,
    whole: `${disk.mountpoint}/disk.raw`,
    p1: `${disk.mountpoint}/p1`,
    p2: `${disk.mountpoint}/p2`,
  };
}

/** A file with the GPT. */
const gptDisk = (scope: Scope): Promise<string> => partitionedDisk(scope, 'GPT');

const WAYS: readonly (readonly [string, (scope: Scope, raw: string) => Promise<readonly string[]>])[] = [
  ['a qcow2', async (scope, raw) => [await convertTo(scope, raw, 'qcow2', 'disk.qcow2')]],
  ['a raw image', async (_, raw) => [raw]],
  ['a URI', async (scope, raw) => [(await startNbdkit(scope, 'file', raw)).uri()]],
  ['--unix', async (scope, raw) => ['--unix', (await startNbdkit(scope, 'file', raw)).socket]],
  ['[ CMD ]', async (_, raw) => ['[', 'nbdkit', 'file', raw, ']']],
  ['--command', async (_, raw) => ['--command', 'nbdkit', '-s', 'file', raw]],
];

describe('--partitions', () => {
  it.each(WAYS)('of %s shows the disk and its partitions', async (_, serve) => {
    const scope = createScope();
    const { disk, whole, p1, p2 } = await mountPartitions(scope, await serve(scope, await gptDisk(scope)));
    expect(readdirSync(disk.mountpoint)).toEqual(['disk.raw', 'p1', 'p2']);
    expect([whole, p1, p2].map((path) => statSync(path).size)).toEqual([32 * MIB, P1.size, P2.size]);
    await writeAt(p2, Buffer.from('in partition 2'), 100);
    expect((await readAt(whole, P2.at + 100, 14)).toString()).toBe('in partition 2');
    expect(await disk.stop()).toBe(0);
  });

  it('has labels and types in --status and in attributes', async () => {
    const scope = createScope();
    const { disk, p1 } = await mountPartitions(scope, [await gptDisk(scope)]);
    const status = JSON.parse(await statusText('--json', disk.mountpoint));
    expect(
      status.files.map(({ partition, label, offset, size }: Record<string, unknown>) => [
        partition,
        label,
        offset,
        size,
      ]),
    ).toEqual([
      [undefined, undefined, undefined, String(32 * MIB)],
      [1, 'boot disk', String(P1.at), String(P1.size)],
      [2, 'root', String(P2.at), String(P2.size)],
    ]);
    expect(await statusText(p1)).toMatch(
      /\n {2}partition {4}1 \(boot disk\), type 0fc63daf-[0-9a-f-]+, at byte 1048576\n/,
    );
    const attribute = "import os, sys; print(os.getxattr(sys.argv[1], 'user.nbd.label').decode())";
    expect(await runProgram('python3', '-c', attribute, p1)).toBe('boot disk\n');
  });

  it('shows a write of one file in the others at once, also to a descriptor that has read before', async () => {
    const scope = createScope();
    const { whole, p1, p2 } = await mountPartitions(scope, [await gptDisk(scope)]);
    const handles = { whole: await openFile(scope, whole, 'r+'), p1: await openFile(scope, p1, 'r+') };
    const seen = async (handle: typeof handles.p1, at: number) =>
      (await handle.read(Buffer.alloc(6), 0, 6, at)).buffer.toString();
    for (let round = 0; round < 20; round++) {
      const at = round * 1000 + 3;
      const text = `no. ${10 + round}`;
      const [from, to] = round % 2 === 0 ? [handles.p1, handles.whole] : [handles.whole, handles.p1];
      const offset = (handle: typeof from) => (handle === handles.p1 ? at : P1.at + at);
      await seen(to, offset(to));
      await from.write(Buffer.from(text), 0, 6, offset(from));
      expect(await seen(to, offset(to))).toBe(text);
    }
    expect(await readAt(p2, 0, 4096)).toEqual(await readAt(whole, P2.at, 4096));
    await Promise.all(Object.values(handles).map((handle) => handle.close()));
  });

  it('orders overlapping writes of several files: no write is torn or lost', async () => {
    const scope = createScope();
    const { disk, whole, p1 } = await mountPartitions(scope, [
      '[',
      'nbdkit',
      '--filter=delay',
      'file',
      await gptDisk(scope),
      'delay-write=5ms',
      ']',
    ]);
    const handles = await Promise.all([whole, p1, whole, p1].map((path) => openFile(scope, path, 'r+')));
    const length = 64 * 1024;
    for (let round = 0; round < 10; round++) {
      const writes = handles.map((handle, i) =>
        handle.write(Buffer.alloc(length, 65 + i), 0, length, i % 2 === 0 ? P1.at : 0),
      );
      await Promise.all(writes);
      const found = await readAt(p1, 0, length);
      expect(found.equals(Buffer.alloc(length, found[0]))).toBe(true);
      expect(await readAt(whole, P1.at, length)).toEqual(found);
    }
    for (const handle of handles) await handle.close();
    expect(await disk.stop()).toBe(0);
  });

  it('shows a new mapping what another file has written, and others what a mapping has written after msync', async () => {
    const scope = createScope();
    const { whole, p1 } = await mountPartitions(scope, [await gptDisk(scope)]);
    const script = `
import mmap, os, sys
def mapped(path):
  f = os.open(path, os.O_RDWR)
  m = mmap.mmap(f, 1 << 20, access=mmap.ACCESS_WRITE)
  os.close(f)
  return m
def put(path, text, at):
  f = os.open(path, os.O_RDWR); os.pwrite(f, text, at); os.close(f)
whole, p1, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
m = mapped(p1); m[0:3]; m.close()
put(whole, b'one', start)
m = mapped(p1)
assert m[0:3] == b'one', m[0:3]
m[0:3] = b'two'
m.flush()
f = os.open(whole, os.O_RDONLY)
assert os.pread(f, 3, start) == b'two'
m[4096:4099] = b'new'
q = os.open(p1, os.O_RDONLY)
assert os.lseek(q, 0, os.SEEK_DATA) == 0
`;
    await runProgram('python3', '-c', script, whole, p1, String(P1.at));
  });

  it('ends each file at its partition', async () => {
    const scope = createScope();
    const { whole, p1 } = await mountPartitions(scope, [await gptDisk(scope)]);
    const before = await readAt(whole, P1.at + P1.size, 65_536);
    const handle = await openFile(scope, p1, 'r+');
    expect((await handle.write(Buffer.alloc(8192, 7), 0, 8192, P1.size - 4096)).bytesWritten).toBe(4096);
    await expect(handle.write(Buffer.alloc(1), 0, 1, P1.size)).rejects.toThrow(/ENOSPC|EFBIG/);
    expect((await handle.read(Buffer.alloc(8192), 0, 8192, P1.size - 100)).bytesRead).toBe(100);
    expect((await handle.read(Buffer.alloc(1), 0, 1, P1.size)).bytesRead).toBe(0);
    await handle.close();
    await runShell('fallocate --punch-hole --offset 0 --length 64M "$0"', p1);
    expect(await readAt(whole, P1.at + P1.size, 65_536)).toEqual(before);
    expect((await readAt(whole, P1.at, P1.size)).equals(Buffer.alloc(P1.size))).toBe(true);
  });

  it('has holes at offsets of the partition, and true st_blocks', async () => {
    const scope = createScope();
    const { whole, p2 } = await mountPartitions(scope, [await gptDisk(scope)]);
    await runShell('fallocate --punch-hole --length 16M "$0"', p2);
    await writeAt(p2, Buffer.alloc(MIB, 7), 4 * MIB);
    const script = `
import os, sys
f = os.open(sys.argv[1], os.O_RDONLY)
print(os.lseek(f, 0, os.SEEK_DATA), os.lseek(f, 4 << 20, os.SEEK_HOLE), os.lseek(f, 0, os.SEEK_HOLE))
try: os.lseek(f, 5 << 20, os.SEEK_DATA)
except OSError as error: print(error.errno)
`;
    expect(await runProgram('python3', '-c', script, p2)).toBe(`${4 * MIB} ${5 * MIB} 0\n6\n`);
    expect(statSync(p2).blocks * 512).toBe(MIB);
    await runShell('fallocate --punch-hole --offset $1 --length 1M "$0"', whole, String(P2.at + 4 * MIB));
    expect(statSync(p2).blocks).toBe(0);
  });

  it('reports a failed FLUSH once to each open handle, whatever its file', async () => {
    const scope = createScope();
    const [image, bad] = [await gptDisk(scope), scope.path('bad')];
    const plugin = [
      'thread_model=echo parallel',
      `get_size=stat -c %s ${image}`,
      'can_write=exit 0',
      'can_flush=exit 0',
      `pread=dd if=${image} iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=64k status=none`,
      `pwrite=dd of=${image} oflag=seek_bytes seek=$4 conv=notrunc bs=64k status=none`,
      `flush=[ ! -e ${bad} ] || { echo EIO the medium is gone >&2; exit 1; }`,
    ];
    const { disk, whole, p1, p2 } = await mountPartitions(scope, ['[', 'nbdkit', 'eval', ...plugin, ']']);
    const handles = await Promise.all([whole, p1, p2].map((path) => openFile(scope, path, 'r+')));
    const [first, ...others] = handles;
    await first.write(Buffer.alloc(512, 1), 0, 512, P1.at);
    writeFileSync(bad, '');
    await expect(first.sync()).rejects.toThrow(/EIO/);
    rmSync(bad);
    await first.sync();
    for (const handle of others) {
      await expect(handle.sync()).rejects.toThrow(/EIO/);
      await handle.sync();
    }
    for (const handle of handles) await handle.close();
    expect(await disk.stop()).toBe(0);
  });

  it('reconnects all files, with the data from before the end of the server', async () => {
    const scope = createScope();
    const image = await gptDisk(scope);
    const { disk, whole, p1, p2 } = await mountPartitions(
      scope,
      ['[', 'nbdkit', '-f', '--filter=cache', 'file', image, ']'],
      '--restart',
    );
    await writeAt(p1, Buffer.from('first'), 0);
    await writeAt(p2, Buffer.from('second'), 0);
    await writeAt(whole, Buffer.from('FIR'), P1.at);
    const found = await processesOf(scope.folder);
    for (const { pid, command } of found) if (/^\S*nbdkit /.test(command)) process.kill(pid, 'SIGKILL');
    await until('the restart', () => disk.stderr.includes('disk.raw: reconnected after'));
    expect((await readAt(p1, 0, 5)).toString()).toBe('FIRst');
    expect((await readAt(p2, 0, 6)).toString()).toBe('second');
    expect(await disk.stop()).toBe(0);
  });

  it('warns about a damaged GPT, and leaves out a partition beyond the end of the disk', async () => {
    const scope = createScope();
    const image = await gptDisk(scope);
    await damage(image, 512);
    const { disk } = await mountPartitions(scope, [image], '-r');
    expect(disk.stderr).toContain(
      'nbdfuse: the GPT at the beginning of the disk is damaged (no header): using',
    );
    expect(await disk.stop()).toBe(0);
    const other = await partitionedDisk(scope, 'MBR logical', 'other.raw');
    await runShell('truncate -s 20M "$0"', other);
    const cut = await mountPartitions(scope, [other], '-r');
    expect(readdirSync(cut.disk.mountpoint)).toEqual(['disk.raw', 'p1', 'p5']);
    expect(cut.disk.stderr).toContain(
      'partition 6 is not within the disk of 20971520 bytes: it is not shown\n',
    );
  });

  it('reports a table that it cannot read in one line', async () => {
    const scope = createScope();
    const mountpoint = (await runShell('mkdir "$0" && echo "$0"', scope.path('mnt'))).trim();
    const server = ['[', 'nbdkit', 'eval', 'get_size=echo 1M', 'pread=echo EIO no >&2; exit 1', ']'];
    const program = startNbdfuse(scope, ['--partitions', mountpoint, ...server]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/^nbdfuse: cannot read the partition table: input\/output error\n/m);
    expect(await runProgram('cat', '/proc/self/mounts')).not.toContain(mountpoint);
  });

  it.each([
    [[], /^nbdfuse: the disk has no partition table: mount it as a whole\n$/, ''],
    [['--fuse-backend=fuse-native'], /^nbdfuse: --partitions cannot be used with fuse-native/, ''],
    [[], /^nbdfuse: mountpoint \S+: --partitions needs a directory/, '/name'],
    [['--all'], /^nbdfuse: --partitions and --all cannot be used together/, ''],
    [['--partition=1'], /^nbdfuse: --partitions and --partition cannot be used together/, ''],
    [['--cache=writeback'], /^nbdfuse: --partitions works with --cache=none only/, ''],
  ] as const)('is refused with %j: %s', async (options, message, name) => {
    const scope = createScope();
    const mountpoint = (await runShell('mkdir "$0" && echo "$0"', scope.path('mnt'))).trim();
    const words = ['--partitions', ...options, `${mountpoint}${name}`, '[', 'nbdkit', 'memory', '1M', ']'];
    const program = startNbdfuse(scope, words);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(message);
    expect(await runProgram('cat', '/proc/self/mounts')).not.toContain(mountpoint);
  });
});
