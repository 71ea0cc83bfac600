// The source of the memory of pooled buffers: the operating system, or the simulator.

import { discardPages, preferHugePages } from '../../linux/memory.js';

/** Allocation and advice about pages; see linux/memory. Addresses and lengths are whole pages. */
export interface Memory {
  /** Allocates zeroed memory. */
  allocate(bytes: number): ArrayBuffer;
  preferHugePages(address: number, length: number): void;
  /** Returns the pages to the system; they read as zeros afterwards. False: the system refused. */
  discardPages(address: number, length: number): boolean;
}

export const REAL_MEMORY: Memory = {
  allocate: (bytes) => new ArrayBuffer(bytes),
  preferHugePages,
  discardPages,
};
