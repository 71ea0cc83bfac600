import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EOPNOTSUPP } from '../../../src/constants/errno.js';
import { NBD_STATE_HOLE, NBD_STATE_ZERO } from '../../../src/index.js';
import { scratchFolder } from '../../support/cleanup.js';
import { createQcow2 } from '../../support/run/images.js';
import { connect, nbdkit } from './support.js';

describe('NbdClient block status', () => {
  test('covers the whole range, merged and without gaps', async () => {
    const client = await connect(nbdkit('memory', '1M'));
    await client.write(65_536, Buffer.alloc(32_768, 1));
    const hole = NBD_STATE_HOLE | NBD_STATE_ZERO;
    expect(await client.blockStatus(0, client.size)).toEqual({
      'base:allocation': [
        { offset: 0n, length: 65_536n, flags: hole },
        { offset: 65_536n, length: 32_768n, flags: 0 },
        { offset: 98_304n, length: 950_272n, flags: hole },
      ],
    });
    expect(await client.blockStatus(70_000, 5)).toEqual({
      'base:allocation': [{ offset: 70_000n, length: 5n, flags: 0 }],
    });
    expect((await client.blockStatus(0, client.size, { one: true }))['base:allocation']).toHaveLength(1);
    expect((await client.blockStatus(0, client.size, { partial: true }))['base:allocation']).toHaveLength(3);
  });

  test('iterates over several replies', async () => {
    const client = await connect(nbdkit('null', '100G'));
    const extents = [];
    for await (const extent of client.extents({ offset: 5 })) extents.push(extent);
    const length = 100n * 2n ** 30n - 5n;
    expect(extents).toEqual([{ offset: 5n, length, flags: NBD_STATE_HOLE | NBD_STATE_ZERO }]);
  });

  test('returns the contexts of qemu-nbd', async () => {
    const path = createQcow2(join(scratchFolder(), 'disk.qcow2'), '4M');
    execFileSync('qemu-img', ['bitmap', '--add', path, 'b0']);
    const contexts = ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:b0'];
    const client = await connect(
      { socketActivation: ['qemu-nbd', '-f', 'qcow2', '-A', '-B', 'b0', path] },
      { metaContexts: contexts },
    );
    expect([...client.metaContexts].sort()).toEqual(contexts);
    await client.write(0, Buffer.alloc(65_536, 1));
    const status = await client.blockStatus(0, client.size, { contexts: contexts.slice(1) });
    expect(status['qemu:allocation-depth']).toEqual([
      { offset: 0n, length: 65_536n, flags: 1 },
      { offset: 65_536n, length: 4_128_768n, flags: 0 },
    ]);
    expect(status['base:allocation']).toBeUndefined();
  });

  test('fails if no context was negotiated', async () => {
    const client = await connect(nbdkit('memory', '1M'), { metaContexts: [] });
    await expect(client.blockStatus(0, 512)).rejects.toMatchObject({ errno: EOPNOTSUPP });
    const other = await connect(nbdkit('memory', '1M'));
    await expect(other.blockStatus(0, 512, { contexts: ['x:y'] })).rejects.toThrow(
      'the metadata context x:y was not negotiated; there are base:allocation',
    );
  });
});
