// The worker's memory as the simulated kernel and servers see it: bytes at an address.

import { addressOf, libc } from '../../src/linux/libc.js';
import { discardPages } from '../../src/linux/memory.js';

/** The largest request: 1 MiB with its header. */
const WINDOW = new Uint8Array(new ArrayBuffer(2 * 1024 * 1024));
const WINDOW_ADDRESS = addressOf(WINDOW);

/** The bytes at an address. Valid until the next call. */
export function peek(address: number, length: number): Uint8Array {
  libc.memcpy(WINDOW_ADDRESS, address, length);
  return WINDOW.subarray(0, length);
}

/** Copies bytes to an address of the worker. */
export function poke(address: number, bytes: Uint8Array): void {
  WINDOW.set(bytes);
  libc.memcpy(address, WINDOW_ADDRESS, bytes.length);
}

/** The areas of memory that workers have had, and whether the worker of this history has them. */
const AREAS: { readonly buffer: ArrayBuffer; readonly address: number; isTaken: boolean }[] = [];

/** An area of memory for the worker of this history, filled with zeros; they are used again in the next. */
export function takeArea(bytes: number): ArrayBuffer {
  const free = AREAS.find(({ buffer, isTaken }) => !isTaken && buffer.byteLength === bytes);
  if (free !== undefined) {
    free.isTaken = true;
    discardPages(free.address, bytes);
    const ends = new Uint8Array(free.buffer);
    // The ends, which are not whole pages.
    ends.fill(0, 0, 4096);
    ends.fill(0, bytes - 4096);
    return free.buffer;
  }
  const buffer = new ArrayBuffer(bytes);
  AREAS.push({ buffer, address: addressOf(new Uint8Array(buffer)), isTaken: true });
  return buffer;
}

/** A new history begins: no area is taken. */
export function freeAreas(): void {
  for (const area of AREAS) area.isTaken = false;
}
