// Images in formats that QEMU only reads and qemu-img cannot make, written here from a raw disk.
//
// Layouts: QEMU's block/cloop.c and block/bochs.c; the trailer and block map of dmg as in block/dmg.c.

import { readFileSync, writeFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';

const SECTOR = 512;
const BLOCK = 65_536;

function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

function u64(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64BE(BigInt(value), 8 * i);
  return bytes;
}

function blocksOf(disk: Buffer, length: number): Buffer[] {
  const count = Math.ceil(disk.length / length);
  return Array.from({ length: count }, (_, i) => disk.subarray(i * length, (i + 1) * length));
}

/** A cloop image of a disk of whole 64 KiB. */
function cloopOf(disk: Buffer): Buffer {
  const head = Buffer.alloc(128);
  head.write('#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n');
  const packed = blocksOf(disk, BLOCK).map((block) => deflateSync(block));
  const first = head.length + 8 + 8 * (packed.length + 1);
  const offsets = [first];
  for (const [i, { length }] of packed.entries()) offsets.push(offsets[i] + length);
  return Buffer.concat([head, u32(BLOCK, packed.length), u64(...offsets), ...packed]);
}

/** A growing disk of Bochs, with one extent for each 64 KiB. */
function bochsOf(disk: Buffer): Buffer {
  const blocks = blocksOf(disk, BLOCK);
  const head = Buffer.alloc(SECTOR);
  head.write('Bochs Virtual HD Image');
  head.write('Redolog', 32);
  head.write('Growing', 48);
  const bitmap = Buffer.alloc(SECTOR, 0xff);
  for (const [i, value] of [0x20000, SECTOR, blocks.length, SECTOR, BLOCK, 0].entries()) {
    head.writeUInt32LE(value, 64 + 4 * i);
  }
  head.writeBigUInt64LE(BigInt(disk.length), 88);
  const catalog = Buffer.alloc(4 * blocks.length);
  for (const i of blocks.keys()) catalog.writeUInt32LE(i, 4 * i);
  return Buffer.concat([head, catalog, ...blocks.flatMap((block) => [bitmap, block])]);
}

/** A dmg with compressed, raw and empty chunks (UDZO), with the map in its property list. */
function dmgOf(disk: Buffer): Buffer {
  const data: Buffer[] = [];
  let [at, sector] = [0, 0];
  const entries: Buffer[] = [];
  for (const [i, block] of blocksOf(disk, BLOCK).entries()) {
    const [type, bytes] = i % 2 === 0 ? [0x80000005, deflateSync(block)] : [1, block];
    data.push(bytes);
    entries.push(u32(type, 0), u64(sector, block.length / SECTOR, at, bytes.length));
    at += bytes.length;
    sector += block.length / SECTOR;
  }
  entries.push(u32(0xffffffff, 0), u64(sector, 0, at, 0));
  const mish = Buffer.alloc(204);
  mish.write('mish');
  mish.set(u32(1), 4);
  mish.set(u64(0, sector, 0), 8);
  mish.set(u32(2056, 0), 32);
  mish.set(u32(entries.length / 2), 200);
  const map = Buffer.concat([mish, ...entries]).toString('base64');
  const list = Buffer.from(
    `<?xml version="1.0"?><plist version="1.0"><dict><key>resource-fork</key><dict><key>blkx</key><array><dict>` +
      `<key>Data</key><data>\n${map}\n</data></dict></array></dict></dict></plist>`,
  );
  const koly = Buffer.alloc(SECTOR);
  koly.write('koly');
  koly.set(u32(4, SECTOR, 1), 4);
  koly.set(u64(0, 0, at), 16);
  koly.set(u32(1, 1), 56);
  koly.set(u64(at, list.length), 0xd8);
  koly.set(u64(sector), 0x1ec);
  return Buffer.concat([...data, list, koly]);
}

/** Makes an image of a raw disk whose size is a multiple of 64 KiB. */
export function makeReadOnlyImage(format: 'dmg' | 'cloop' | 'bochs', raw: string, path: string): string {
  writeFileSync(path, { dmg: dmgOf, cloop: cloopOf, bochs: bochsOf }[format](readFileSync(raw)));
  return path;
}
