// Chooses the file of liblzma: nbdfuse's own where the system's is slow, or missing. See decision 36.

import { existsSync, readFileSync } from 'node:fs';
import { openLibrary } from './native.js';

/** The system's, by the name with which the dynamic loader finds it. */
export const SYSTEM_LIBLZMA = 'liblzma.so.5';

/** Version 5.6.0, as lzma_version_number() says it; older ones decode at 0.6 times the speed. */
const FAST_VERSION = 50_060_002;

/** The version of a file of liblzma; 0: it cannot be loaded here. */
function versionOf(path: string): number {
  try {
    return openLibrary(path).func('lzma_version_number', 'uint32', [])() as number;
  } catch {
    return 0;
  }
}

const isFast = (path: string): boolean => versionOf(path) >= FAST_VERSION;

/** Offsets in the header of an ELF file of 64 bits: of the section headers, and the size and number of these. */
const ELF = { length: 64, sections: 40, sectionSize: 58, sectionCount: 60 } as const;

/** Whether a library has all bytes, up to the section headers at its end: the loader maps a file that is cut short. */
function isWhole(path: string): boolean {
  try {
    const bytes = readFileSync(path);
    const header = bytes.subarray(0, ELF.length);
    const sections = Number(header.readBigUInt64LE(ELF.sections));
    const length = header.readUInt16LE(ELF.sectionSize) * header.readUInt16LE(ELF.sectionCount);
    return bytes.length >= sections + length;
  } catch {
    return false;
  }
}

/** Whether a library that needs glibc fits: musl would load it. */
const hasGlibc = (): boolean => !existsSync('/lib/ld-musl-x86_64.so.1');

/**
 * Chooses between the system's liblzma and nbdfuse's own.
 * @param own the path of nbdfuse's own; it may be missing, or not fit the system
 * @returns the path or name for `useLiblzma` in any thread: the file stays loaded, so that no thread looks for it
 */
export function chooseLiblzma(own: string): string {
  const isBetter = !isFast(SYSTEM_LIBLZMA) && hasGlibc() && isWhole(own) && isFast(own);
  return isBetter ? own : SYSTEM_LIBLZMA;
}
