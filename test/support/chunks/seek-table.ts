// Skippable frames and seek tables of zstd (zstd_seekable_compression_format.md).

const SKIPPABLE = 0x184d2a50;
const SEEK_TABLE = 0x184d2a5e;
const SEEKABLE = 0x8f92eab1;

/** A skippable frame. @param which the last digit of its magic number */
export function skippable(data: Buffer, which = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(SKIPPABLE + which);
  head.writeUInt32LE(data.length, 4);
  return Buffer.concat([head, data]);
}

/** The lengths of a frame, compressed and decoded. */
export type FrameLengths = readonly [number, number];

/** A seek table (zstd_seekable_compression_format.md), without checksums of frames. */
export function seekTable(entries: readonly FrameLengths[]): Buffer {
  const body = Buffer.alloc(entries.length * 8 + 9);
  for (const [i, [compressed, decoded]] of entries.entries()) {
    body.writeUInt32LE(compressed >>> 0, i * 8);
    body.writeUInt32LE(decoded >>> 0, i * 8 + 4);
  }
  body.writeUInt32LE(entries.length, entries.length * 8);
  body.writeUInt32LE(SEEKABLE, entries.length * 8 + 5);
  const table = skippable(body);
  table.writeUInt32LE(SEEK_TABLE);
  return table;
}
