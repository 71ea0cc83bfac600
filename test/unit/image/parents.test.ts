import { expect, it } from 'vitest';
import { ImageError } from '../../../src/image/errors.js';
import { refuseChild } from '../../../src/image/parents.js';
import { readerOf } from '../../support/disk-reader.js';

it('parents: any bytes of a header are refused or taken, without another error', async () => {
  let seed = 7;
  const random = (): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed >> 16;
  };
  const image = Buffer.alloc(320 * 1024);
  for (let i = 0; i < 300; i++) {
    for (const at of [0, 16, 60, 0x1b8, 192 * 1024 + 8, 256 * 1024, 300 * 1024]) {
      for (let j = 0; j < 32; j++) image[at + j] = random();
    }
    image.write('conectix');
    image.write('regi', 192 * 1024);
    image.set(Buffer.from('06a27c8b90479a4bb8fe575f050f886e', 'hex'), 192 * 1024 + 16);
    image.writeBigUInt64LE(300n * 1024n, 192 * 1024 + 32);
    image.write('metadata', 300 * 1024);
    image.set(Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex'), 300 * 1024 + 32);
    image.set(Buffer.from('2d5fd3a80bb34d45abf7d3d84834ab0c', 'hex'), 300 * 1024 + 64);
    const look = { head: image.subarray(0, 65_536), tail: image.subarray(-512) };
    for (const format of ['vhd', 'vdi', 'vhdx', 'qcow2'] as const) {
      const result = await refuseChild('x', format, look, (use) => use(readerOf(image))).catch(
        (error) => error,
      );
      expect(result === undefined || result instanceof ImageError).toBe(true);
    }
  }
});
