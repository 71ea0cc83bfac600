// The restart points of a file as bytes, for the cache file. Pure.
//
// Little-endian: size u64, count u32, and for each point in u64, out u64, length of the state u32, state.

import type { PointIndex, RestartPoint } from '../contract/coding.js';

const HEAD = 12;
const POINT = 20;

export function encodeIndex({ size, points }: PointIndex): Uint8Array {
  const length = points.reduce((sum, { state }) => sum + POINT + (state?.length ?? 0), HEAD);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(size), true);
  view.setUint32(8, points.length, true);
  let at = HEAD;
  for (const point of points) {
    view.setBigUint64(at, BigInt(point.in), true);
    view.setBigUint64(at + 8, BigInt(point.out), true);
    view.setUint32(at + 16, point.state?.length ?? 0, true);
    if (point.state !== undefined) bytes.set(point.state, at + POINT);
    at += POINT + (point.state?.length ?? 0);
  }
  return bytes;
}

/** The index in bytes of `encodeIndex`; undefined: they are something else. */
export function decodeIndex(bytes: Uint8Array): PointIndex | undefined {
  if (bytes.length < HEAD) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [size, count] = [Number(view.getBigUint64(0, true)), view.getUint32(8, true)];
  const points: RestartPoint[] = [];
  let at = HEAD;
  for (let i = 0; i < count; i++) {
    if (at + POINT > bytes.length) return undefined;
    const point = { in: Number(view.getBigUint64(at, true)), out: Number(view.getBigUint64(at + 8, true)) };
    const length = view.getUint32(at + 16, true);
    at += POINT;
    if (at + length > bytes.length || point.out <= (points.at(-1)?.out ?? -1)) return undefined;
    points.push(length === 0 ? point : { ...point, state: bytes.slice(at, at + length) });
    at += length;
  }
  return at === bytes.length && (count === 0 || points[0].out === 0) ? { size, points } : undefined;
}
