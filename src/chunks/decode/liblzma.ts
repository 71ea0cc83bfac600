// liblzma: the functions that the xz decoder uses, and its results.

import { addressOf } from '../../linux/libc.js';
import { SYSTEM_LIBLZMA } from './liblzma-file.js';
import { openLibrary } from './native.js';

/** Results of liblzma. */
export const LZMA_OK = 0;
export const LZMA_STREAM_END = 1;
export const LZMA_MEM_ERROR = 5;
export const LZMA_MEMLIMIT_ERROR = 6;
export const LZMA_OPTIONS_ERROR = 8;
export const LZMA_BUF_ERROR = 10;

let file = SYSTEM_LIBLZMA;

/** Has this thread use a file of liblzma; without it, the thread uses the system's. */
export function useLiblzma(path: string): void {
  file = path;
  loaded = undefined;
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
