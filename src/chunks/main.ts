// The chunk server: an NBD server of nbdfuse's own, which decodes and keeps images. A process of its own.
//
// nbdfuse starts it as the server of an image. A crash of a decoder, which is native code and gets strangers' bytes, ends
// this process and not the mount.

import { printable } from '../nbd/text.js';
import { openCacheFile } from './cache/cache-file.js';
import { MemoryCache } from './cache/memory.js';
import { savedIdentity } from './cache/saved-identity.js';
import type { Identity, UnitFile } from './contract/cache.js';
import type { Input } from './contract/coding.js';
import type { ServedDisk } from './contract/disk.js';
import type { ChunkStatus } from './contract/status.js';
import { readOnlyDisk } from './disk/read-only-disk.js';
import { extentsOf, writableDisk } from './disk/writable-disk.js';
import { absentInput } from './input/absent-input.js';
import { openFileInput } from './input/file-input.js';
import { NbdInput } from './input/nbd-input.js';
import { rangedInput } from './input/ranged-input.js';
import { type ChunkServerOptions, parseOptions } from './options.js';
import { textOf } from './reader/errors.js';
import { type Image, openImage } from './reader/image.js';
import { fileStatus, Work } from './reader/work.js';
import { inheritedListener } from './serve/activation.js';
import { serveDisk } from './serve/serve.js';

/** Writes a line for the user. */
function say(line: string): void {
  process.stderr.write(`nbdfuse: ${printable(line)}\n`);
}

/** The place of the threads' program: beside this one. */
const THREAD = new URL('./decode-thread.js', import.meta.url);

function openInput({ input, connections }: ChunkServerOptions): Promise<Input> {
  if ('file' in input) return openFileInput(input.file);
  return NbdInput.open({ server: input, connections });
}

/** The part of the file that is decoded. */
function rangeOf(input: Input, { range }: ChunkServerOptions): Input {
  return range === undefined ? input : rangedInput(input, range);
}

function identityOf(input: Input, { source, version, coding, range, part }: ChunkServerOptions): Identity {
  const places = [range, part].map((one) => (one === undefined ? '' : `${one.offset}+${one.length}`));
  return { source, version, coding: [coding, ...places].join(' ').trim(), fileSize: input.size };
}

/** The source, or, where it cannot be reached, what the cache file remembers of it. */
async function reachableInput(options: ChunkServerOptions): Promise<Input> {
  try {
    return rangeOf(await openInput(options), options);
  } catch (error) {
    const { cacheFile, source, isWritable } = options;
    const saved = cacheFile === undefined || isWritable ? undefined : await savedIdentity(cacheFile);
    if (saved === undefined || saved.identity.source !== source) throw error;
    say(`${textOf(error)}; what the cache file has is served without it`);
    return absentInput(saved.identity.fileSize, textOf(error));
  }
}

interface Opened {
  readonly input: Input;
  readonly image: Image;
  readonly work: Work;
  readonly disk: ServedDisk;
}

async function open(options: ChunkServerOptions, status: StatusKeeper): Promise<Opened> {
  const input = await reachableInput(options);
  const { cacheFile: path, cacheSize: limit, coding } = options;
  const memory = new MemoryCache(options.cacheMemory);
  const isAbsent = 'isAbsent' in input;
  const openFile = async (size: number | undefined): Promise<UnitFile | undefined> => {
    if (path === undefined) return undefined;
    const saved = size === undefined || isAbsent ? await savedIdentity(path) : undefined;
    const identity = isAbsent && saved !== undefined ? saved.identity : identityOf(input, options);
    const known = size ?? (sameIdentity(saved?.identity, identity) ? saved?.size : undefined);
    if (known === undefined) return undefined;
    return openCacheFile({ path, identity, size: known, limit, onFailure: say, onLine: say });
  };
  const image = await openImage({
    input,
    coding,
    memory,
    openFile,
    threadEntry: THREAD,
    onLine: (line) => say(`${options.source}: ${line}`),
    onProgress: (done, all) => status.progress(done, all),
  });
  const { prefetch, trace } = options;
  const work = await Work.start({ image, memory, prefetch, trace, onChange: () => status.changed() });
  status.watch(() => ({ ...work.status, file: fileStatus(image.file, path, limit) }));
  return { input, image, work, disk: diskOf(options, input, image) };
}
