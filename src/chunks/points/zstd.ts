// Finds the frames of a zstd file by the seek table at its end, where there is one.
//
// facebook/zstd has the format: contrib/seekable_format/zstd_seekable_compression_format.md. `zstd -dc` skips the table,
// so a wrong one does not make the file a wrong one: the sums of the table and a sample of the frames must fit. The
// decoder checks that each part which it decodes ends where the table says (the state of the points).

import { type Input, MAX_READ, type PointIndex, type RestartPoint } from '../contract/coding.js';
import { UNIT } from '../contract/units.js';
import { seekTableState } from '../decode/zstd.js';

const TABLE_MAGIC = 0x184d2a5e;
const FOOTER_MAGIC = 0x8f92eab1;
const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const HEADER_LENGTH = 8;
const FOOTER_LENGTH = 9;

/** Bits of the table's descriptor. */
const HAS_CHECKSUMS = 0x80;
const RESERVED_BITS = 0x7c;

/** The most frames that the format allows. */
const MAX_FRAMES = 0x8000000;

/** Maximum number of points: a larger file gets points that are further apart than a unit. */
const MAX_POINTS = 0x40000;

/** Frames whose headers are compared with the table. */
const SAMPLES = 16;
/** Maximum bytes of a frame's header. */
const MAX_FRAME_HEADER = 18;

/** A frame in the table. */
interface Frame extends RestartPoint {
  /** Its decoded bytes. */
  readonly length: number;
}

/** The frames that became points, and a sample of all. */
interface Table {
  readonly size: number;
  readonly points: readonly RestartPoint[];
  readonly samples: readonly Frame[];
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The frames of a file with a seek table; undefined: it has none, or a wrong one. @throws Error with `errno` */
export async function findZstdPoints(input: Input): Promise<PointIndex | undefined> {
  if (input.size < HEADER_LENGTH + FOOTER_LENGTH) return undefined;
  const footer = viewOf(await input.read(input.size - FOOTER_LENGTH, FOOTER_LENGTH));
  const [count, descriptor] = [footer.getUint32(0, true), footer.getUint8(4)];
  if (footer.getUint32(5, true) !== FOOTER_MAGIC || (descriptor & RESERVED_BITS) !== 0) return undefined;
  if (count === 0 || count > MAX_FRAMES) return undefined;
  const entryLength = (descriptor & HAS_CHECKSUMS) === 0 ? 8 : 12;
  const length = count * entryLength + FOOTER_LENGTH;
  const start = input.size - HEADER_LENGTH - length;
  if (start < 0) return undefined;
  const header = viewOf(await input.read(start, HEADER_LENGTH));
  if (header.getUint32(0, true) !== TABLE_MAGIC || header.getUint32(4, true) !== length) return undefined;
  const table = await readTable(input, start, count, entryLength);
  if (table === undefined) return undefined;
  const fitting = await Promise.all(table.samples.map((frame) => fits(input, frame)));
  return fitting.every(Boolean) ? { size: table.size, points: table.points } : undefined;
}

/** Reads the entries of the table that begins at `start`; undefined: their sum is wrong. */
async function readTable(
  input: Input,
  start: number,
  count: number,
  entryLength: number,
): Promise<Table | undefined> {
  let points: RestartPoint[] = [];
  let spacing = UNIT;
  const samples: Frame[] = [];
  const sampleEvery = Math.ceil(count / (SAMPLES - 1));
  const perRead = Math.floor(MAX_READ / entryLength);
  let [at, out] = [0, 0];
  for (let first = 0; first < count; first += perRead) {
    const some = Math.min(perRead, count - first);
    const entries = viewOf(await input.read(start + HEADER_LENGTH + first * entryLength, some * entryLength));
    for (let index = 0; index < some; index++) {
      const length = entries.getUint32(index * entryLength + 4, true);
      const last = points.at(-1);
      if (last === undefined || (length > 0 && out - last.out >= spacing)) points.push({ in: at, out });
      if (points.length > MAX_POINTS) {
        points = points.filter((_, which) => which % 2 === 0);
        spacing *= 2;
      }
      const isLast = first + index === count - 1;
      if ((first + index) % sampleEvery === 0 || isLast) samples.push({ in: at, out, length });
      at += entries.getUint32(index * entryLength, true);
      out += length;
      if (at > start) return undefined;
    }
  }
  return at === start ? { size: out, points: withStates(points, start, out), samples } : undefined;
}

/** Points that say where the next one is; behind the last one, the table begins at `start`. */
function withStates(points: readonly RestartPoint[], start: number, size: number): RestartPoint[] {
  return points.map(({ in: at, out }, index) => {
    const next = points[index + 1] ?? { in: start, out: size };
    return { in: at, out, state: seekTableState(next.in, next.out) };
  });
}

/** Whether a frame is where the table says, and as long. */
async function fits(input: Input, { in: at, length }: Frame): Promise<boolean> {
  const head = viewOf(await input.read(at, Math.min(MAX_FRAME_HEADER, input.size - at)));
  if (head.byteLength < HEADER_LENGTH) return false;
  const magic = head.getUint32(0, true);
  if ((magic & ~15) === SKIPPABLE_MAGIC) return length === 0;
  if (magic !== FRAME_MAGIC) return false;
  const contentSize = contentSizeOf(head);
  return contentSize === undefined || contentSize === BigInt(length);
}

/** The decoded bytes of a frame by its header; undefined: it does not say. */
function contentSizeOf(head: DataView): bigint | undefined {
  const descriptor = head.getUint8(4);
  const isSingle = (descriptor & 0x20) !== 0;
  const dictionaryLength = [0, 1, 2, 4][descriptor & 3];
  const at = 5 + (isSingle ? 0 : 1) + dictionaryLength;
  const code = descriptor >> 6;
  if (at + [isSingle ? 1 : 0, 2, 4, 8][code] > head.byteLength) return undefined;
  if (code === 0) return isSingle ? BigInt(head.getUint8(at)) : undefined;
  if (code === 1) return BigInt(head.getUint16(at, true) + 256);
  return code === 2 ? BigInt(head.getUint32(at, true)) : head.getBigUint64(at, true);
}
