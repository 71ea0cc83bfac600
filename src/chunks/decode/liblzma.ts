// liblzma: which file of it is used, the functions that the xz decoder uses, and its results.

import { existsSync, readFileSync } from 'node:fs';
import { addressOf } from '../../linux/libc.js';
import { openLibrary } from './native.js';

/** Results of liblzma. */
export const LZMA_OK = 0;
export const LZMA_STREAM_END = 1;
export const LZMA_MEM_ERROR = 5;
export const LZMA_MEMLIMIT_ERROR = 6;
export const LZMA_OPTIONS_ERROR = 8;
export const LZMA_BUF_ERROR = 10;

/** The system's, by the name with which the dynamic loader finds it. */
export const SYSTEM_LIBLZMA = 'liblzma.so.5';
/** Version 5.6.0, as lzma_version_number() says it; older ones decode at 0.6 times the speed: see decision 36. */
const FAST_VERSION = 50_060_002;

let file = SYSTEM_LIBLZMA;

/** The version of a file of liblzma; 0: it cannot be loaded here. */
function versionOf(path: string): number {
  try {
    return openLibrary(path).func('lzma_version_number', 'uint32', [])() as number;
  } catch {
    return 0;
  }
}

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
 * Has this thread use nbdfuse's own liblzma if the system's is slow, or missing.
 * @param own the path of nbdfuse's own; it may be missing, or not fit the system
 * @returns the file in use, for `useLiblzma` in further threads; it stays loaded, so that they do not look for it
 */
export function chooseLiblzma(own: string): string {
  const isFast = (path: string): boolean => versionOf(path) >= FAST_VERSION;
  const isBetter = !isFast(SYSTEM_LIBLZMA) && hasGlibc() && isWhole(own) && isFast(own);
  return useLiblzma(isBetter ? own : SYSTEM_LIBLZMA);
}

/** Has this thread use a file of liblzma. @returns it */
export function useLiblzma(path: string): string {
  file = path;
  loaded = undefined;
  return file;
}

function load() {
  const library = openLibrary(file);
  return {
    code: library.func('lzma_code', 'int', ['size_t', 'int']),
    end: library.func('lzma_end', 'void', ['size_t']),
    blockHeaderDecode: library.func('lzma_block_header_decode', 'int', ['size_t', 'size_t', 'size_t']),
    blockDecoder: library.func('lzma_block_decoder', 'int', ['size_t', 'size_t']),
    decoderMemory: library.func('lzma_raw_decoder_memusage', 'uint64', ['size_t']),
    checkIsSupported: library.func('lzma_check_is_supported', 'uint8', ['int']),
    crc32: library.func('lzma_crc32', 'uint32', ['size_t', 'size_t', 'uint32']),
    /** liblzma 5.2 has no function that frees the options of filters. */
    free: openLibrary('libc.so.6').func('free', 'void', ['size_t']),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;

/** The functions, loaded once in each thread. @throws Error without liblzma */
export function liblzma(): ReturnType<typeof load> {
  loaded ??= load();
  return loaded;
}

/** The CRC-32 of bytes; `before` is that of the bytes before them. @throws Error without liblzma */
export function lzmaCrc32(bytes: Uint8Array, before = 0): number {
  return bytes.length === 0 ? before : liblzma().crc32(addressOf(bytes), bytes.length, before);
}
