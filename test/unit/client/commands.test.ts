import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EINVAL, ENOSPC, EOPNOTSUPP, EPERM } from '../../../src/constants/errno.js';
import { NbdServerError } from '../../../src/index.js';
import { scratchFolder } from '../../support/cleanup.js';
import { connect, nbdkit, shell } from './support.js';

describe('NbdClient commands', () => {
  const logged = (folder: string) =>
    shell(`case $1 in
    can_write|can_flush|can_trim|can_zero|can_fast_zero) exit 0 ;; can_fua) echo native ;; can_cache) echo native ;;
    get_size) echo 1048576 ;; pread) head -c $3 /dev/zero ;; pwrite) cat >/dev/null; echo "$*" >>${folder}/log ;;
    flush|trim|zero|cache) echo "$*" >>${folder}/log ;; *) exit 2 ;; esac`);

  test('reach the server with their flags', async () => {
    const folder = scratchFolder();
    const client = await connect(logged(folder));
    await client.write(512, Buffer.alloc(512), { fua: true });
    await client.zero(0, 1024, { noHole: true });
    await client.zero(0, 1024, { fastZero: true, fua: true });
    await client.trim(2048, 4096, { fua: true });
    await client.cache(0, 512);
    await client.flush();
    const calls = readFileSync(join(folder, 'log'), 'utf8').trim().split('\n');
    // nbdkit-sh-plugin(3): command, handle, count, offset, flags.
    expect(calls.map((call) => call.replace(/ +/g, ' ').trim())).toEqual([
      'pwrite 512 512 fua',
      'zero 1024 0',
      'zero 1024 0 fua,may_trim,fast',
      'trim 4096 2048 fua',
      'cache 512 0',
      'flush',
    ]);
  });

  test('fail without a request if the server does not support them', async () => {
    const client = await connect(
      shell(`case $1 in
      get_size) echo 1048576 ;; pread) head -c $3 /dev/zero ;; pwrite) cat >/dev/null ;; can_write) exit 0 ;;
      can_flush|can_trim|can_zero) exit 3 ;; can_cache) echo none ;; *) exit 2 ;; esac`),
    );
    for (const attempt of [client.flush(), client.trim(0, 512), client.cache(0, 512)]) {
      await expect(attempt).rejects.toMatchObject({ errno: EOPNOTSUPP });
    }
  });

  test('fail if they change a read-only export', async () => {
    const client = await connect(nbdkit('-r', 'memory', '1M'));
    expect(client.readOnly).toBe(true);
    for (const attempt of [client.write(0, Buffer.alloc(512)), client.zero(0, 512), client.trim(0, 512)]) {
      await expect(attempt).rejects.toThrow();
    }
    await expect(client.write(0, Buffer.alloc(512))).rejects.toMatchObject({ errno: EPERM });
  });

  test('fail outside of the export', async () => {
    const client = await connect(nbdkit('memory', '1M'));
    await expect(client.read(1_048_576, 1)).rejects.toMatchObject({ errno: EINVAL });
    await expect(client.read(2n ** 63n, 0)).rejects.toMatchObject({ errno: EINVAL });
    await expect(client.read(-1, 1)).rejects.toThrow('bad offset -1');
    await expect(client.read(0.5, 1)).rejects.toThrow('bad offset 0.5');
    await expect(client.write(1_048_575, Buffer.alloc(2))).rejects.toThrow(
      'bytes 1048575 to 1048577 are outside the export, whose size is 1048576 bytes',
    );
    expect(await client.read(1_048_576, 0)).toEqual(Buffer.alloc(0));
  });

  test('reject with the errno and the text of the server, and do not affect other commands', async () => {
    const client = await connect(
      shell(`case $1 in
      get_size) echo 1048576 ;; can_write) exit 0 ;; pwrite) cat >/dev/null; echo 'ENOSPC the disk is full' >&2; exit 1 ;;
      pread) if [ $4 -ge 524288 ]; then echo "EIO a bad \\033[1msector" >&2; exit 1; fi; head -c $3 /dev/zero ;;
      *) exit 2 ;; esac`),
    );
    const [good, bad] = await Promise.allSettled([client.read(0, 512), client.read(524_288, 512)]);
    expect(good.status).toBe('fulfilled');
    expect(bad).toMatchObject({
      reason: {
        errno: 5,
        message: expect.stringMatching(/^NBD_CMD_READ of 512 bytes at 524288 failed: NBD_EIO/),
      },
    });
    const error = await client.write(0, Buffer.alloc(512)).catch((reason) => reason);
    expect(error).toBeInstanceOf(NbdServerError);
    expect(error).toMatchObject({ errno: ENOSPC });
    expect(await client.read(0, 1)).toEqual(Buffer.alloc(1));
  });
});
