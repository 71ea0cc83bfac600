// The source of the memory of pooled buffers: the operating system, or the simulator.

import { allocateForProcess } from '../../linux/libc.js';
import { discardPages, preferHugePages } from '../../linux/memory.js';

/** Allocation and advice about pages; see linux/memory. Addresses and lengths are whole pages. */
export interface Memory {
  /** Allocates zeroed memory for an area of many buffers. */
  allocate(bytes: number): ArrayBuffer;
  /** Allocates zeroed memory for one buffer. */
  allocateBuffer(bytes: number): ArrayBuffer;
  preferHugePages(address: number, length: number): void;
  /** Returns the pages to the system; they read as zeros afterwards. False: the system refused. */
  discardPages(address: number, length: number): boolean;
}

export const REAL_MEMORY: Memory = {
  allocate: (bytes) => new ArrayBuffer(bytes),
  allocateBuffer: (bytes) => new ArrayBuffer(bytes),
  preferHugePages,
  discardPages,
};

/** Memory that stays when its thread ends, even by lack of memory: another thread may still read it by address. */
export const LASTING_MEMORY: Memory = {
  allocate: allocateForProcess,
  allocateBuffer: allocateForProcess,
  preferHugePages,
  discardPages,
};
