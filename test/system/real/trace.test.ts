// The trace of -v: each request of the kernel, with the commands that were sent for it.

import { describe, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'fallocate');

/** Reads, writes, punches a hole, and makes a forbidden request. */
async function traceOf(options: readonly string[]): Promise<string[]> {
  const scope = createScope();
  const server = ['--command', 'nbdkit', '-s', '-v', 'memory', '1M'];
  const disk = await mountDisk(scope, { server, options: ['-v', ...options], form: 'file name' });
  const direct = ['bs=4096', 'count=1', 'status=none'];
  await runProgram('dd', `if=${disk.file}`, 'of=/dev/null', 'skip=3', 'iflag=direct', ...direct);
  await runProgram(
    'dd',
    'if=/dev/zero',
    `of=${disk.file}`,
    'seek=5',
    'oflag=direct,dsync',
    'conv=notrunc',
    ...direct,
  );
  await runProgram('fallocate', '-p', '-o', '8192', '-l', '4096', disk.file);
  expect((await tryProgram('rm', disk.file)).status).not.toBe(0);
  expect(await disk.stop()).toBe(0);
  return disk.stderr.trimEnd().split('\n');
}

const TIME = ', \\d+ us$';

describe('trace', () => {
  it('has a line for each request and each command: name, offset, connection, result, time', async () => {
    const lines = await traceOf([]);
    const line = (pattern: string): string => {
      const found = lines.filter((text) => new RegExp(`^nbdfuse: ${pattern}`).test(text));
      expect(found, `${pattern} in\n${lines.join('\n')}`).toHaveLength(1);
      return found[0].split(' ')[1];
    };
    const read = line(`#\\d+ FUSE_READ disk.raw offset 12288 length 4096: ok${TIME}`);
    // The server ends with its connection, so that a READ must not lose that.
    const reading = 'NBD_CMD_READ disk.raw offset 12288 length 4096 NBD_CMD_FLAG_DF connection 0';
    expect(line(`#\\d+ ${reading}: ok${TIME}`)).toBe(read);
    const write = line(`#\\d+ FUSE_WRITE disk.raw offset 20480 length 4096: ok${TIME}`);
    const command = 'NBD_CMD_WRITE disk.raw offset 20480 length 4096 NBD_CMD_FLAG_FUA connection 0';
    expect(line(`#\\d+ ${command}: ok${TIME}`)).toBe(write);
    const hole = line(`#\\d+ FUSE_FALLOCATE disk.raw offset 8192 length 4096 mode 3: ok${TIME}`);
    const zeroes = 'NBD_CMD_WRITE_ZEROES disk.raw offset 8192 length 4096 connection 0';
    expect(line(`#\\d+ ${zeroes}: ok${TIME}`)).toBe(hole);
    line(`#\\d+ FUSE_UNLINK node 1: EPERM${TIME}`);
    expect(lines).toContainEqual(expect.stringMatching(/FUSE_LOOKUP node 1 name "disk\.raw": ok, \d+ us$/));
    expect(lines.join('\n')).not.toMatch(/FUSE_\d|errno \d/);
  });

  it('is one object per line with --log-format=json, the output of the server included', async () => {
    const objects = (await traceOf(['--log-format=json'])).map(
      (text): Record<string, unknown> => JSON.parse(text),
    );
    const found = (event: string): Record<string, unknown> | undefined =>
      objects.find((one) => one.event === event && (one.offset === 12288 || one.node === 1));
    const time = { time: expect.any(String), microseconds: expect.any(Number), us: expect.any(Number) };
    const common = { level: 'trace', result: 'ok', ...time };
    const place = { file: 'disk.raw', offset: 12288, length: 4096, request: expect.any(Number) };
    expect(found('FUSE_READ')).toEqual({ ...common, ...place, event: 'FUSE_READ' });
    const sent = { event: 'NBD_CMD_READ', connection: 0, flags: ['NBD_CMD_FLAG_DF'] };
    expect(found('NBD_CMD_READ')).toEqual({ ...common, ...place, ...sent });
    expect(found('NBD_CMD_READ')?.request).toBe(found('FUSE_READ')?.request);
    expect(found('FUSE_READ')?.us).toBe(found('FUSE_READ')?.microseconds);
    expect(found('FUSE_UNLINK')).toMatchObject({ result: 'EPERM' });
    expect(objects).toContainEqual(
      expect.objectContaining({ event: 'server', level: 'info', text: expect.stringContaining('nbdkit') }),
    );
  });
});
