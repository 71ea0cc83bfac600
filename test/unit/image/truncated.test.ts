// Whether an image is cut short: few reads find it out, since each may be a request to a distant web server.

import { describe, expect, it } from 'vitest';
import { truncationOf } from '../../../src/image/truncated.js';

const SECTOR = 512;
/** Entries of a grain table, sectors of a grain, and the tables of a disk of 40 GiB. */
const [ENTRIES, GRAIN, TABLES] = [512, 128, 1280];
const TABLE_LENGTH = ENTRIES * 4;
const DIRECTORY = 1;

/** A sparse VMDK whose tables begin `distance` bytes behind each other, of which the last one has a grain at `grainAt`. */
function vmdk(distance: number, grainAt: number): Buffer {
  const first = (DIRECTORY + Math.ceil((TABLES * 4) / SECTOR)) * SECTOR;
  const file = Buffer.alloc(first + TABLES * distance);
  file.write('KDMV', 'latin1');
  file.writeBigUInt64LE(BigInt(TABLES * ENTRIES * GRAIN), 12);
  file.writeBigUInt64LE(BigInt(GRAIN), 20);
  file.writeUInt32LE(ENTRIES, 44);
  file.writeBigUInt64LE(BigInt(DIRECTORY), 56);
  for (let i = 0; i < TABLES; i++)
    file.writeUInt32LE((first + i * distance) / SECTOR, DIRECTORY * SECTOR + i * 4);
  file.writeUInt32LE(grainAt / SECTOR, first + (TABLES - 1) * distance + TABLE_LENGTH - 4);
  return file;
}

async function look(file: Buffer) {
  let reads = 0;
  const read = async (offset: bigint, length: number): Promise<Buffer> => {
    reads++;
    return file.subarray(Number(offset), Number(offset) + length);
  };
  const line = await truncationOf('x', 'vmdk', file, { size: BigInt(file.length), read });
  return { line, reads };
}

describe('truncationOf', () => {
  it.each([TABLE_LENGTH, TABLE_LENGTH + SECTOR])(
    'needs few reads: tables %i bytes apart',
    async (distance) => {
      const { length } = vmdk(distance, 0);
      const grainAt = length + GRAIN * SECTOR - (length % SECTOR);
      const short = await look(vmdk(distance, grainAt));
      expect(short.line).toContain(`it has ${length} bytes, and uses bytes at ${grainAt + 1}`);
      const whole = await look(vmdk(distance, SECTOR));
      expect(whole.line).toBeUndefined();
      expect(Math.max(short.reads, whole.reads)).toBeLessThan(20);
    },
  );
});
