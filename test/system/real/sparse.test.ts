// Holes: programs see the server's holes, and nbdfuse never reads them.

import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { createQcow2 } from '../../support/run/images.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img');

const TIB = 2 ** 40;
const MIB = 2 ** 20;

/** A mostly empty disk of 1 TiB with 64 KiB of data at 3 GiB and at 900 GiB, behind nbdkit's log filter. */
async function mountSparse(scope: Scope): Promise<{ disk: MountedDisk; bytesRead(): number }> {
  const log = scope.path('log');
  const image = scope.path('sparse.raw');
  const script = `truncate -s ${TIB} ${image}
    for at in 3 900; do head -c 65536 /dev/urandom | dd of=${image} bs=65536 seek=$((at * 16384)) conv=notrunc status=none; done`;
  execFileSync('bash', ['-c', script]);
  const server = ['[', 'nbdkit', '--filter=log', 'file', image, `logfile=${log}`, ']'];
  const disk = await mountDisk(scope, { server });
  const bytesRead = (): number =>
    [...readFileSync(log, 'utf8').matchAll(/ Read id=\d+ offset=\S+ count=0x([0-9a-f]+)/g)].reduce(
      (sum, [, count]) => sum + Number.parseInt(count, 16),
      0,
    );
  return { disk, bytesRead };
}

/** Programs that copy only allocated parts. */
const COPIERS: [string, (from: string, to: string) => string[]][] = [
  ['cp --sparse=always', (from: string, to: string) => ['cp', '--sparse=always', from, to]],
  ['tar -S', (from: string, to: string) => ['tar', '-S', '-cf', to, from]],
  [
    'qemu-img convert',
    (from: string, to: string) => ['qemu-img', 'convert', '-f', 'raw', '-O', 'raw', from, to],
  ],
];

it.each(COPIERS)('sparse copy: %s of a sparse TiB reads only allocated parts', async (_name, command) => {
  const scope = createScope();
  const { disk, bytesRead } = await mountSparse(scope);
  const copy = scope.path('copy');
  const [program, ...args] = command(disk.file, copy);
  execFileSync(program, args, { stdio: 'ignore' });
  expect(bytesRead()).toBeGreaterThanOrEqual(2 * 65_536);
  // The kernel reads ahead around each read.
  expect(bytesRead()).toBeLessThan(64 * MIB);
  expect(statSync(copy).blocks * 512).toBeLessThan(MIB);
});

it.each(COPIERS)('sparse copy: %s of a qcow2 reads only allocated parts', async (_name, command) => {
  const scope = createScope();
  const image = createQcow2(scope.path('disk.qcow2'), '1T');
  for (const at of ['3G', '900G'])
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P 7 ${at} 64k`, image], { stdio: 'ignore' });
  const disk = await mountDisk(scope, { server: ['[', 'qemu-nbd', '-f', 'qcow2', image, ']'] });
  const copy = scope.path('copy');
  const [program, ...args] = command(disk.file, copy);
  execFileSync(program, args, { stdio: 'ignore' });
  const { bytesReceived } = JSON.parse(
    python(disk.file, "print(os.getxattr(sys.argv[1], 'user.nbd.status').decode())"),
  ) as { bytesReceived: number };
  // All bytes that the server has sent, with the headers of its replies.
  expect(bytesReceived).toBeGreaterThanOrEqual(2 * 65_536);
  expect(bytesReceived).toBeLessThan(64 * MIB);
  expect(statSync(copy).blocks * 512).toBeLessThan(MIB);
});

it('holes: qemu-img map shows those of a qcow2 image through the file', async () => {
  const scope = createScope();
  const image = createQcow2(scope.path('disk.qcow2'), '1T');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 5G 64k', image], { stdio: 'ignore' });
  const disk = await mountDisk(scope, { server: ['[', 'qemu-nbd', '-f', 'qcow2', image, ']'] });
  const map = execFileSync('qemu-img', ['map', '-f', 'raw', '--output=json', disk.file], {
    encoding: 'utf8',
  });
  const data = (JSON.parse(map) as { start: number; length: number; data: boolean }[]).filter(
    (one) => one.data,
  );
  expect(data).toEqual([expect.objectContaining({ start: 5 * 2 ** 30, length: 65_536 })]);
});

it('holes: st_blocks does not count them', async () => {
  const scope = createScope();
  const { disk } = await mountSparse(scope);
  expect(statSync(disk.file).size).toBe(TIB);
  expect(statSync(disk.file).blocks * 512).toBeLessThan(TIB);
});

const SEEK = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
def seek(at, whence):
    try: return os.lseek(fd, at, whence)
    except OSError as error: return 'errno %d' % error.errno
exec(sys.argv[2])
`;
const python = (file: string, code: string): string =>
  execFileSync('python3', ['-c', SEEK, file, code], { encoding: 'utf8' }).trim();

it('SEEK_DATA and SEEK_HOLE: follow POSIX, at the end too', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '4M', ']'] });
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(65_536, 'x'), 0, 65_536, MIB);
  await handle.close();
  expect(python(disk.file, 'print(seek(0, os.SEEK_DATA), seek(0, os.SEEK_HOLE))')).toBe(`${MIB} 0`);
  expect(python(disk.file, `print(seek(${MIB}, os.SEEK_HOLE))`)).toBe(String(MIB + 65_536));
  expect(python(disk.file, `print(seek(${2 * MIB}, os.SEEK_DATA))`)).toBe('errno 6');
  expect(python(disk.file, `print(seek(${4 * MIB}, os.SEEK_HOLE), seek(${4 * MIB}, os.SEEK_DATA))`)).toBe(
    'errno 6 errno 6',
  );
});

it('SEEK_HOLE: a write that the kernel has not sent yet is data', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '64M', ']'] });
  expect(python(disk.file, 'print(seek(0, os.SEEK_DATA))')).toBe('errno 6');
  const code = `print(seek(0, os.SEEK_DATA)); os.pwrite(fd, b"x" * 100, ${8 * MIB}); print(seek(0, os.SEEK_DATA))`;
  expect(python(disk.file, code)).toBe(`errno 6\n${8 * MIB}`);
});

it.each(['writeback', 'writethrough', 'none'])(
  'SEEK_HOLE: data written to a mapping is data, with --cache=%s',
  async (cache) => {
    const scope = createScope();
    const server = ['[', 'nbdkit', 'memory', '64M', ']'];
    const disk = await mountDisk(scope, { server, options: [`--cache=${cache}`] });
    const code = `import mmap; m = mmap.mmap(fd, ${64 * MIB}); m[${8 * MIB}] = 1; print(seek(0, os.SEEK_DATA))`;
    expect(python(disk.file, code)).toBe(String(8 * MIB));
  },
);

it('SEEK_HOLE: without block status everything is data', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', '--filter=noextents', 'memory', '1M', ']'] });
  expect(python(disk.file, 'print(seek(0, os.SEEK_DATA), seek(0, os.SEEK_HOLE))')).toBe(`0 ${MIB}`);
});
