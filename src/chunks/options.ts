// The command line of the chunk server, which only nbdfuse writes.

import { parseArgs } from 'node:util';
import type { Coding, MemberCheck } from './contract/coding.js';

/** A range of bytes. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Where the bytes come from. */
export type InputName =
  | { readonly file: string }
  | { readonly uri: string }
  /** A server that takes its socket by socket activation, or one that speaks on its standard input and output. */
  | { readonly command: readonly string[]; readonly isStdio: boolean };

export interface ChunkServerOptions {
  readonly input: InputName;
  readonly coding: Coding;
  /** The check of a compressed file in a zip archive. */
  readonly check: MemberCheck | undefined;
  /** The part of the compressed file that is decoded; undefined: all. */
  readonly range: ByteRange | undefined;
  /** The part of the decoded bytes that is served; undefined: all. */
  readonly part: ByteRange | undefined;
  /** The name and version of the source, for the identity of the cache. */
  readonly source: string;
  readonly version: string;
  /** No request can be bound to the version: the content of a compressed file is a part of its identity, too. */
  readonly isWeakVersion: boolean;
  readonly cacheFile: string | undefined;
  /** Bytes. */
  readonly cacheSize: number | undefined;
  readonly cacheMemory: number;
  /** Fetch all of the image; `rate` in bytes a second. */
  readonly prefetch: { readonly rate: number | undefined } | undefined;
  readonly trace: string | undefined;
  readonly connections: number | undefined;
  readonly isWritable: boolean;
  /** A command for a shell that uses the socket `$unixsocket`. */
  readonly run: string | undefined;
}

const CODINGS: readonly Coding[] = [
  'plain',
  'xz',
  'gzip',
  'deflate',
  'bzip2',
  'zstd',
  'lz4',
  'android-sparse',
];

/** Bytes of units that are kept in memory. */
const CACHE_MEMORY = 256 * 1024 * 1024;

const text = { type: 'string' } as const;

const OPTIONS = {
  file: text,
  nbd: text,
  coding: text,
  check: text,
  range: text,
  part: text,
  source: text,
  version: text,
  'weak-version': { type: 'boolean' },
  'cache-file': text,
  'cache-size': text,
  'cache-memory': text,
  prefetch: text,
  trace: text,
  connections: text,
  stdio: { type: 'boolean' },
  writable: { type: 'boolean' },
  run: text,
} as const;

function number(what: string, word: string): number {
  const value = /^\d{1,16}$/.test(word) ? Number(word) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Error(`bad ${what}: ${word}`);
  return value;
}

function range(what: string, word: string | undefined): ByteRange | undefined {
  if (word === undefined) return undefined;
  const [offset = '', length = ''] = word.split('+');
  return { offset: number(what, offset), length: number(what, length) };
}

/** `CRC+SIZE`, or `CRC+CRC+SIZE`. */
function check(word: string | undefined): MemberCheck | undefined {
  if (word === undefined) return undefined;
  const numbers = word.split('+').map((one) => number('check', one));
  return { crcs: numbers.slice(0, -1), size: numbers.at(-1) ?? 0 };
}

function inputOf(
  values: { readonly file?: string | undefined; readonly nbd?: string | undefined; readonly stdio?: boolean },
  command: readonly string[],
): InputName {
  if (values.file !== undefined) return { file: values.file };
  if (values.nbd !== undefined) return { uri: values.nbd };
  if (command.length === 0) throw new Error('no source');
  return { command, isStdio: values.stdio === true };
}

/** @throws Error when the words are not as nbdfuse writes them */
export function parseOptions(words: readonly string[]): ChunkServerOptions {
  const { values, positionals } = parseArgs({ args: [...words], options: OPTIONS, allowPositionals: true });
  const coding = CODINGS.find((one) => one === (values.coding ?? 'plain'));
  if (coding === undefined) throw new Error(`unknown coding ${values.coding}`);
  const input = inputOf(values, positionals);
  const { prefetch } = values;
  const optional = (what: string, word: string | undefined): number | undefined =>
    word === undefined ? undefined : number(what, word);
  return {
    input,
    coding,
    check: check(values.check),
    range: range('range', values.range),
    part: range('part', values.part),
    source: values.source ?? '',
    version: values.version ?? '',
    isWeakVersion: values['weak-version'] === true,
    cacheFile: values['cache-file'],
    cacheSize: optional('cache-size', values['cache-size']),
    cacheMemory: optional('cache-memory', values['cache-memory']) ?? CACHE_MEMORY,
    prefetch:
      prefetch === undefined
        ? undefined
        : { rate: prefetch === '' ? undefined : number('prefetch', prefetch) },
    trace: values.trace,
    connections: optional('connections', values.connections),
    isWritable: values.writable === true,
    run: values.run,
  };
}
