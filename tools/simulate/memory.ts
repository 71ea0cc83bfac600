// The worker's memory as the simulated kernel and servers see it: bytes at an address.

import { addressOf, libc } from '../../src/os/libc.js';

/** The largest request: 1 MiB with its header. */
const WINDOW = new Uint8Array(new ArrayBuffer(2 * 1024 * 1024));
const WINDOW_ADDRESS = addressOf(WINDOW);

/** The bytes at an address. Valid until the next call. */
export function peek(address: number, length: number): Uint8Array {
  libc.memcpy(WINDOW_ADDRESS, address, length);
  return WINDOW.subarray(0, length);
}

/** Puts bytes where the worker wants them. */
export function poke(address: number, bytes: Uint8Array): void {
  WINDOW.set(bytes);
  libc.memcpy(address, WINDOW_ADDRESS, bytes.length);
}
