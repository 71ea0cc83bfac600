// The command lines of the chunk server, which decodes, keeps and fetches ahead the bytes of an image. Pure.
//
// It stands below qemu-nbd, and on top of a file, an NBD server, or a server that it starts.

import type { Coding, MemberCheck } from '../chunks/contract/coding.js';
import { CHUNK_SERVER_WORDS } from '../transport/chunk-program.js';
import type { ChunkSettings } from './keep-request.js';

/** A range in bytes. */
export interface Range {
  readonly offset: bigint;
  readonly size: bigint;
}

/** Where the bytes come from. */
export type Below =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'nbd'; readonly uri: string }
  /**
   * A server that takes its socket by socket activation.
   * connections: so many may read at the same time, whether or not it says so
   */
  | { readonly kind: 'server'; readonly argv: readonly string[]; readonly connections?: number }
  /** A server that speaks on its standard input and output. */
  | { readonly kind: 'command'; readonly argv: readonly string[] };

/** The image of a cache: see `Identity` of the chunk server. */
export interface SourceIdentity {
  readonly source: string;
  readonly version: string;
  /** No request can be bound to the version: it does not tell later whether the source has the same file. */
  readonly isWeak?: boolean;
}

/** A chunk server. */
export interface ChunkRequest {
  readonly coding: Coding;
  /** The check of a file that a zip archive has compressed. */
  readonly check?: MemberCheck | undefined;
  readonly below: Below;
  /** The place of the coded bytes in the file. */
  readonly range?: Range | undefined;
  /** The place of the image in the decoded bytes. */
  readonly part?: Range | undefined;
  readonly identity: SourceIdentity;
  readonly settings: ChunkSettings;
  readonly writable?: boolean;
  /** A line of the shell that runs a server on top; see `--run` of nbdkit. */
  readonly run?: string | undefined;
}

const rangeText = ({ offset, size }: Range): string => `${offset}+${size}`;

function settingWords({ cacheFile, cacheSize, cacheMemory, prefetch, trace }: ChunkSettings): string[] {
  const words: string[] = [];
  if (cacheFile !== undefined) words.push(`--cache-file=${cacheFile}`);
  if (cacheSize !== undefined) words.push(`--cache-size=${cacheSize}`);
  if (cacheMemory !== undefined) words.push(`--cache-memory=${cacheMemory}`);
  if (prefetch !== undefined)
    words.push(`--prefetch=${prefetch === Number.POSITIVE_INFINITY ? '' : prefetch}`);
  if (trace !== undefined) words.push(`--trace=${trace}`);
  return words;
}

function belowWords(below: Below): readonly string[] {
  switch (below.kind) {
    case 'file':
      return [`--file=${below.path}`];
    case 'nbd':
      return [`--nbd=${below.uri}`];
    case 'command':
      return ['--stdio', '--', ...below.argv];
    default:
      return [
        ...(below.connections === undefined ? [] : [`--connections=${below.connections}`]),
        '--',
        ...below.argv,
      ];
  }
}

/** The words of a chunk server that takes its socket by socket activation. */
export function chunkWords(request: ChunkRequest): readonly string[] {
  const { coding, check, below, range, part, identity, settings, writable = false, run } = request;
  const words = [...CHUNK_SERVER_WORDS, `--coding=${coding}`];
  if (check !== undefined) words.push(`--check=${[...check.crcs, check.size].join('+')}`);
  if (range !== undefined) words.push(`--range=${rangeText(range)}`);
  if (part !== undefined) words.push(`--part=${rangeText(part)}`);
  words.push(`--source=${identity.source}`);
  if (identity.version !== '') words.push(`--version=${identity.version}`);
  if (identity.isWeak === true) words.push('--weak-version');
  words.push(...settingWords(settings));
  if (writable) words.push('--writable');
  if (run !== undefined) words.push(`--run=${run}`);
  return [...words, ...belowWords(below)];
}

/** The file beside a cache file that records its contents. */
export const indexOf = (cacheFile: string): string => `${cacheFile}.index`;

/** The files that a chunk server makes and writes to. */
export function keptFiles({ cacheFile, trace }: ChunkSettings): readonly string[] {
  const cache = cacheFile === undefined ? [] : [cacheFile, indexOf(cacheFile)];
  return trace === undefined ? cache : [...cache, trace];
}
