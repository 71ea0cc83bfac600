// Finds the frames of a zstd file by the seek table at its end, where there is one.
//
// facebook/zstd has the format: contrib/seekable_format/zstd_seekable_compression_format.md. `zstd -dc` skips the table,
// so a wrong one does not make the file a wrong one. The sums of the table and a sample of the frames must fit. A wrong
// length of one frame would displace all later ones: the table is proven if every frame's header says its length. The
// decoder checks that each part which it decodes ends where the table says (the state of the points).

import { type Input, MAX_READ, type PointIndex, type RestartPoint } from '../contract/coding.js';
import { UNIT } from '../contract/units.js';
import { stateBefore } from '../decode/later-place.js';

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

/** Frames whose headers are compared with the table first. */
const SAMPLES = 16;
/** Most frames whose headers are all compared with the table. */
const MAX_PROVEN = 0x10000;
/** Bytes of the file that are read at once for the headers of small frames, and reads at the same time. */
const WINDOW = 64 * 1024;
const PARALLEL = 16;
/** Maximum bytes of a frame's header. */
const MAX_FRAME_HEADER = 18;

/** A frame in the table. */
interface Frame extends RestartPoint {
  /** Its decoded bytes. */
  readonly length: number;
}

/** The frames that became points, and all or a sample. */
interface Table {
  readonly size: number;
  readonly points: readonly RestartPoint[];
  readonly frames: readonly Frame[];
}

/** The restart points by a seek table. */
export interface SeekTable extends PointIndex {
  /** Whether all frames say that the table is right. */
  readonly isProven: boolean;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The frames of a file with a seek table; undefined: it has none, or a wrong one. @throws Error with `errno` */
export async function findZstdPoints(input: Input): Promise<SeekTable | undefined> {
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
  const { size, points, frames } = table;
  const every = Math.ceil(frames.length / SAMPLES);
  const sample = await compare(
    input,
    frames.filter((_, which) => which % every === 0 || which === frames.length - 1),
  );
  if (sample === 'wrong') return undefined;
  const isAll = frames.length === count;
  const all = sample === 'right' && isAll ? await compare(input, frames) : sample;
  return all === 'wrong' ? undefined : { size, points, isProven: all === 'right' && isAll };
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
  const frames: Frame[] = [];
  const every = count <= MAX_PROVEN ? 1 : Math.ceil(count / (SAMPLES - 1));
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
      if ((first + index) % every === 0 || isLast) frames.push({ in: at, out, length });
      at += entries.getUint32(index * entryLength, true);
      out += length;
      if (at > start) return undefined;
    }
  }
  return at === start ? { size: out, points: withStates(points, start, out), frames } : undefined;
}

/** Points that say where the next one is; behind the last one, the table begins at `start`. */
function withStates(points: readonly RestartPoint[], start: number, size: number): RestartPoint[] {
  return points.map(({ in: at, out }, index) => {
    const next = points[index + 1] ?? { in: start, out: size };
    return { in: at, out, state: stateBefore(next) };
  });
}

/** The verdict of frames on a table; `unsure`: one does not say its length. */
type Verdict = 'right' | 'unsure' | 'wrong';

const worst = (verdicts: readonly Verdict[]): Verdict =>
  verdicts.includes('wrong') ? 'wrong' : verdicts.includes('unsure') ? 'unsure' : 'right';

/** Compares the headers of frames, in rising order, with the table, until one does not fit or does not say. */
async function compare(input: Input, frames: readonly Frame[]): Promise<Verdict> {
  let verdict: Verdict = 'right';
  let group: Frame[] = [];
  let reads: Promise<Verdict>[] = [];
  for (const [which, frame] of frames.entries()) {
    group.push(frame);
    const next = frames.at(which + 1);
    if (next !== undefined && next.in - group[0].in < WINDOW) continue;
    reads.push(compareNear(input, group));
    group = [];
    if (reads.length < PARALLEL && next !== undefined) continue;
    verdict = worst(await Promise.all(reads));
    if (verdict !== 'right') return verdict;
    reads = [];
  }
  return verdict;
}

/** The same for frames whose headers one read brings. */
async function compareNear(input: Input, frames: readonly Frame[]): Promise<Verdict> {
  const [{ in: start }] = frames;
  const end = Math.min((frames.at(-1)?.in ?? start) + MAX_FRAME_HEADER, input.size);
  const bytes = await input.read(start, end - start);
  return worst(frames.map((frame) => verdictOf(viewOf(bytes.subarray(frame.in - start)), frame)));
}

function verdictOf(head: DataView, { length }: Frame): Verdict {
  if (head.byteLength < HEADER_LENGTH) return 'wrong';
  const magic = head.getUint32(0, true);
  if ((magic & ~15) === SKIPPABLE_MAGIC) return length === 0 ? 'right' : 'wrong';
  if (magic !== FRAME_MAGIC) return 'wrong';
  const contentSize = contentSizeOf(head);
  if (contentSize === undefined) return 'unsure';
  return contentSize === BigInt(length) ? 'right' : 'wrong';
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
